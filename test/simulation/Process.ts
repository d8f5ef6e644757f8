/** One simulated operating-system process: a clock, an event loop with Node's phases, and fibers that run nowhere else. */
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

/** 2026-01-01T00:00:00Z: when every simulation begins. */
export const epoch = 1_767_225_600_000

export class Process implements EventLoop, Worker {
  readonly context: Context.Context<never>
  /** By how much its wall clock is wrong. */
  wallClockOffset = 0
  /** When it last stood still. */
  pausedAt: number | undefined
  /** How many timers its fibers wait for. */
  timerCount = 0
  #alive = true
  #stalled = false
  /** What a turn of the loop takes: above 0, something can arrive between two turns. */
  readonly #turnMillis: number
  #busyUntil = 0
  /** Until then nothing reaches it from outside. */
  #lateUntil = 0
  readonly #world: World
  #due: Array<() => void> = []
  #arrived: Array<() => void> = []
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
    return this.#stalled
  }

  /** As after kill -9: nothing of it runs any more. */
  kill(): void {
    this.#alive = false
    this.#world.removeWorker(this)
  }

  /** Stands still for so long. What was sent to it meanwhile comes so much later, as after a machine that was paused. */
  pause(millis: number, late: number): void {
    if (this.#stalled || this.#lateUntil > this.#world.now) return
    this.pausedAt = this.#world.now
    this.#stalled = true
    this.#lateUntil = Math.max(this.#lateUntil, this.#world.now + millis + late)
    this.#world.after(millis, () => {
      this.#stalled = false
    })
  }

  /** Something reaches the process from outside after so many milliseconds; read in the loop's poll phase. */
  deliver(delay: number, run: () => void): void {
    this.#world.after(delay, () => {
      if (!this.#alive) return
      if (this.#lateUntil > this.#world.now) this.deliver(this.#lateUntil - this.#world.now, run)
      else this.#arrived.push(run)
    })
  }

  scheduleImmediate(run: () => void): void {
    this.#immediates.push(run)
  }

  /** Runs an effect in this process. */
  run<A, E>(effect: Effect.Effect<A, E>, onExit?: (exit: Exit.Exit<A, E>) => void): void {
    if (!this.#alive) return
    this.#arrived.push(() => {
      const fiber = Effect.runForkWith(this.context)(effect)
      if (onExit !== undefined) fiber.addObserver(onExit)
    })
  }

  /** One turn of the loop: timers, then what has arrived, then what was put off until after it. */
  work(): boolean {
    if (!this.#alive || this.#stalled || this.#busyUntil > this.#world.now) return false
    if (this.#due.length + this.#arrived.length + this.#immediates.length === 0) return false
    runInLoop(this, () => {
      runAll(this.#due, () => this.#due = [])
      runAll(this.#arrived, () => this.#arrived = [])
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

  /** Runs a callback in this process's loop after so many milliseconds; gives what calls it off. */
  startTimer(millis: number, run: () => void): () => void {
    let waits = true
    const done = () => {
      if (waits) this.timerCount -= 1
      waits = false
    }
    const fire = () => {
      if (!waits) return
      done()
      run()
    }
    this.timerCount += 1
    const planned = this.#world.after(millis, () => {
      if (this.#alive) this.#due.push(fire)
    })
    return () => {
      planned.run = undefined
      done()
    }
  }

  #sleep(millis: number): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const callOff = this.startTimer(millis, () => resume(Effect.void))
      return Effect.sync(callOff)
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
