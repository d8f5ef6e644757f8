/** One node's connection to the simulated database, with latency and failing requests. */
import { StoreUnavailable } from "#store/sql.ts"
import { Effect } from "effect"
import type { Database } from "./SimulatedDatabase.ts"
import type { Process } from "./Process.ts"

/** Milliseconds; as `withStoreErrors` waits. */
const requestTimeout = 8_000

const unavailable = (reason: string) => Effect.fail(new StoreUnavailable({ reason }))

export class DatabaseLink {
  readonly database: Database
  readonly process: Process

  constructor(database: Database, process: Process) {
    this.database = database
    this.process = process
  }

  /**
   * Runs `work` in the database as one committed transaction and returns its result. Defects of `work` are returned as
   * defects.
   */
  request<A, E = never>(name: string, work: () => Effect.Effect<A, E>): Effect.Effect<A, E | StoreUnavailable> {
    const { database, process } = this
    const { faults, world } = database
    return Effect.callback<A, E | StoreUnavailable>((resume) => {
      const { incarnation } = database
      const answer = (delay: number, result: Effect.Effect<A, E | StoreUnavailable>) =>
        process.deliver(delay, () => resume(result))
      const latency = () => world.random.between(1, faults.maxLatency)
      if (faults.mode === "down") return answer(latency(), unavailable("connection refused"))
      const fate = this.#drawFate()
      if (fate !== "ok") world.count(`request: ${fate}`)
      world.after(latency(), () => {
        // A request in flight when its node dies may or may not reach the database.
        if (!process.alive && world.random.chance(0.5)) return
        if (faults.mode === "hung" || fate === "hang") {
          if (fate === "hang" && world.random.chance(0.5)) {
            work()
            database.commitsWithoutAnswer.add(world.now)
          }
          return answer(requestTimeout, unavailable("no response in time"))
        }
        if (faults.mode === "down" || database.incarnation !== incarnation) {
          return answer(1, unavailable("connection lost"))
        }
        if (fate === "refused") return answer(latency(), unavailable("refused"))
        const result = runOrDie(work)
        const doneAt = world.now
        world.trace(() => `  ${name}`)
        world.addToHash(2, name.length)
        const delay = latency()
        if (fate === "answer lost") database.commitsWithoutAnswer.add(world.now)
        if (fate === "answer lost") return answer(delay, unavailable("connection lost after the commit"))
        process.deliver(delay, () => {
          const isLost = database.incarnation !== incarnation
          if (isLost) {
            world.count("request: answer lost")
            database.commitsWithoutAnswer.add(doneAt)
          }
          resume(isLost ? unavailable("connection lost after the commit") : result)
        })
      })
    })
  }

  /**
   * Runs `wake` at once and after every notification except probes. Fails when the connection is lost or silent for too
   * long.
   */
  listen(wake: Effect.Effect<void>, maxSilence: number): Effect.Effect<never, StoreUnavailable> {
    const { database, process } = this
    const { faults, world } = database
    return Effect.callback<never, StoreUnavailable>((resume) => {
      if (faults.mode !== "up") {
        process.deliver(world.random.between(1, 5), () => resume(unavailable("LISTEN: connection refused")))
        return
      }
      let cancelTimer: (() => void) | undefined
      let isOver = false
      const stop = () => {
        isOver = true
        cancelTimer?.()
        unlisten()
      }
      const end = (reason: string) => {
        stop()
        resume(unavailable(reason))
      }
      const restartSilenceTimer = () => {
        cancelTimer?.()
        cancelTimer = process.startTimer(maxSilence, () => end("LISTEN: no notification in time"))
      }
      const unlisten = database.listen(process, (payload) => {
        if (isOver) return
        restartSilenceTimer()
        if (payload === "") process.run(wake)
      }, () => end("LISTEN: connection lost"))
      restartSilenceTimer()
      process.run(wake)
      return Effect.sync(stop)
    })
  }

  #drawFate(): "ok" | "refused" | "answer lost" | "hang" {
    const {
      faults: { hangProbability: hang, loseAnswerProbability: loseAnswer, refuseProbability: refuse },
      world: { random }
    } = this.database
    if (refuse + loseAnswer + hang === 0) return "ok"
    const drawn = random.next()
    if (drawn < refuse) return "refused"
    if (drawn < refuse + loseAnswer) return "answer lost"
    return drawn < refuse + loseAnswer + hang ? "hang" : "ok"
  }
}

function runOrDie<A, E>(work: () => Effect.Effect<A, E>): Effect.Effect<A, E> {
  try {
    return work()
  } catch (defect) {
    return Effect.die(defect)
  }
}
