/** Simulated operating-system process with a clock and an event loop in Node's phases. */
import {
  Clock,
  Context,
  Duration,
  Effect,
  type Exit,
  Logger,
  Metric,
  Random as EffectRandom,
  References,
  Scheduler
} from "effect"
import { type EventLoop, runInLoop } from "./determinism.ts"
import type { Worker, World } from "./World.ts"

/** 2026-01-01T00:00:00Z, the start of every simulation. */
export const epoch = 1_767_225_600_000

export class Process implements EventLoop, Worker {
  readonly context: Context.Context<never>
  /** Error of the wall clock in milliseconds. */
  wallClockOffset = 0
  /** Start of the last pause. */
  pausedAt: number | undefined
  /** Number of timers that fibers of this process wait for. */
  timerCount = 0
  #alive = true
  #paused = false
  /** Duration of one turn of the event loop in milliseconds. Above 0, messages can arrive between two turns. */
  readonly #turnMillis: number
  #busyUntil = 0
  /** No message from outside arrives before this time. */
  #unreachableUntil = 0
  readonly #world: World
  #dueTimers: Array<() => void> = []
  #arrivals: Array<() => void> = []
  #immediates: Array<() => void> = []

  constructor(world: World, turnMillis: number, onLog: (level: string, message: string, why: () => string) => void) {
    this.#world = world
    this.#turnMillis = turnMillis
    const scheduler = new Scheduler.MixedScheduler("async", (run) => {
      this.scheduleImmediate(run)
      return () => {}
    })
    this.context = Context.empty().pipe(
      Context.add(Scheduler.Scheduler, scheduler),
      Context.add(Clock.Clock, this.#clock()),
      Context.add(EffectRandom.Random, {
        nextIntUnsafe: () => world.random.between(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
        nextDoubleUnsafe: () => world.random.next()
      }),
      Context.add(Metric.MetricRegistry, new Map()),
      Context.add(References.TracerEnabled, false),
      Context.add(References.MinimumLogLevel, "Warn"),
      Context.add(
        References.CurrentLoggers,
        new Set([Logger.make<unknown, void>(({ cause, logLevel, message }) => {
          onLog(
            logLevel,
            Array.isArray(message) ? message.join(" ") : String(message),
            () => cause.reasons.map((reason) => JSON.stringify(reason) + stackOf(reason)).join("; ")
          )
        })])
      )
    )
    world.addWorker(this)
  }

  get alive(): boolean {
    return this.#alive
  }

  get isPaused(): boolean {
    return this.#paused
  }

  /** Like kill -9: nothing in this process runs any more. */
  kill(): void {
    this.#alive = false
    this.#world.removeWorker(this)
  }

  /**
   * Pauses the process for `millis`. Messages sent during the pause arrive `late` milliseconds after the pause, as with a paused
   * virtual machine.
   */
  pause(millis: number, late: number): void {
    if (this.#paused || this.#unreachableUntil > this.#world.now) return
    this.pausedAt = this.#world.now
    this.#paused = true
    this.#unreachableUntil = Math.max(this.#unreachableUntil, this.#world.now + millis + late)
    this.#world.after(millis, () => {
      this.#paused = false
    })
  }

  /** Delivers a message from outside after `delay` milliseconds, in the poll phase of the event loop. */
  deliver(delay: number, run: () => void): void {
    this.#world.after(delay, () => {
      if (!this.#alive) return
      if (this.#unreachableUntil > this.#world.now) this.deliver(this.#unreachableUntil - this.#world.now, run)
      else this.#arrivals.push(run)
    })
  }

  scheduleImmediate(run: () => void): void {
    this.#immediates.push(run)
  }

  /** Runs an effect in this process. */
  run<A, E>(effect: Effect.Effect<A, E>, onExit?: (exit: Exit.Exit<A, E>) => void): void {
    if (!this.#alive) return
    this.#arrivals.push(() => {
      const fiber = Effect.runForkWith(this.context)(effect)
      if (onExit !== undefined) fiber.addObserver(onExit)
    })
  }

  /** Runs one turn of the event loop: timers, then arrived messages, then `setImmediate` callbacks. */
  work(): boolean {
    if (!this.#alive || this.#paused || this.#busyUntil > this.#world.now) return false
    if (this.#dueTimers.length + this.#arrivals.length + this.#immediates.length === 0) return false
    runInLoop(this, () => {
      runAll(this.#dueTimers, () => this.#dueTimers = [])
      runAll(this.#arrivals, () => this.#arrivals = [])
      runAll(this.#immediates, () => this.#immediates = [])
    })
    if (this.#turnMillis > 0) {
      this.#busyUntil = this.#world.now + this.#turnMillis
      this.#world.after(this.#turnMillis, () => {})
    }
    return true
  }

  #clock(): Clock.Clock {
    const world = this.#world
    const millis = () => epoch + this.wallClockOffset + world.now
    const monotonic = () => BigInt(world.now) * 1_000_000n
    return {
      currentTimeMillisUnsafe: millis,
      currentTimeMillis: Effect.sync(millis),
      currentTimeNanosUnsafe: () => BigInt(millis()) * 1_000_000n,
      currentTimeNanos: Effect.sync(() => BigInt(millis()) * 1_000_000n),
      monotonicTimeNanosUnsafe: monotonic,
      monotonicTimeNanos: Effect.sync(monotonic),
      sleep: (duration) => this.#sleep(Math.max(1, Math.ceil(Duration.toMillis(duration))))
    }
  }

  /** Runs a callback in this process's event loop after `millis`. Returns a function that cancels the timer. */
  startTimer(millis: number, run: () => void): () => void {
    let isWaiting = true
    const done = () => {
      if (isWaiting) this.timerCount -= 1
      isWaiting = false
    }
    const fire = () => {
      if (!isWaiting) return
      done()
      run()
    }
    this.timerCount += 1
    const event = this.#world.after(millis, () => {
      if (this.#alive) this.#dueTimers.push(fire)
    })
    return () => {
      event.run = undefined
      done()
    }
  }

  #sleep(millis: number): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const cancel = this.startTimer(millis, () => resume(Effect.void))
      return Effect.sync(cancel)
    })
  }
}

function runAll(callbacks: ReadonlyArray<() => void>, clear: () => void): void {
  if (callbacks.length === 0) return
  clear()
  for (const callback of callbacks) callback()
}

function stackOf(reason: object): string {
  const found = "defect" in reason ? reason.defect : "error" in reason ? reason.error : undefined
  return found instanceof Error ? ` ${found.stack ?? ""}` : ""
}
