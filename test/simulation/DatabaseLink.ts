/** One node's connections to the database: every request goes there, takes its time, and may fail on either way. */
import { StoreUnavailable } from "#store/sql.ts"
import { Effect } from "effect"
import type { Database } from "./Database.ts"
import type { Process } from "./Process.ts"

/** As long as `atEdge` waits. */
const requestTimeout = 8_000

const unavailable = (reason: string) => Effect.fail(new StoreUnavailable({ reason }))

export class DatabaseLink {
  readonly database: Database
  readonly process: Process

  constructor(database: Database, process: Process) {
    this.database = database
    this.process = process
  }

  /** Runs `work` at the database as one transaction that commits, and gives its answer. Defects of `work` are answered as such. */
  request<A, E = never>(name: string, work: () => Effect.Effect<A, E>): Effect.Effect<A, E | StoreUnavailable> {
    const { database, process } = this
    const { faults, world } = database
    return Effect.callback<A, E | StoreUnavailable>((resume) => {
      const { incarnation } = database
      const answer = (delay: number, result: Effect.Effect<A, E | StoreUnavailable>) =>
        process.deliver(delay, () => resume(result))
      const latency = () => world.random.between(1, faults.maxLatency)
      if (faults.mode === "down") return answer(latency(), unavailable("connection refused"))
      const fate = this.#fate()
      if (fate !== "well") world.count(`request: ${fate}`)
      world.after(latency(), () => {
        // What was on its way when its node died may or may not have arrived.
        if (!process.alive && world.random.chance(0.5)) return
        if (faults.mode === "hung" || fate === "hang") {
          if (fate === "hang" && world.random.chance(0.5)) {
            work()
            database.commitsWithoutAnswer.add(world.now)
          }
          return answer(requestTimeout, unavailable("no answer in time"))
        }
        if (faults.mode === "down" || database.incarnation !== incarnation) {
          return answer(1, unavailable("connection lost"))
        }
        if (fate === "refused") return answer(latency(), unavailable("refused"))
        const result = attempt(work)
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

  /** Runs `wake` at once and on every notification that is no probe; fails when the connection is lost, or seems to be. */
  listen(wake: Effect.Effect<void>, longestSilence: number): Effect.Effect<never, StoreUnavailable> {
    const { database, process } = this
    const { faults, world } = database
    return Effect.callback<never, StoreUnavailable>((resume) => {
      if (faults.mode !== "up") {
        process.deliver(world.random.between(1, 5), () => resume(unavailable("LISTEN: connection refused")))
        return
      }
      let silence: (() => void) | undefined
      let isOver = false
      const stop = () => {
        isOver = true
        silence?.()
        leave()
      }
      const end = (reason: string) => {
        stop()
        resume(unavailable(reason))
      }
      const heard = () => {
        silence?.()
        silence = process.startTimer(longestSilence, () => end("LISTEN: heard nothing"))
      }
      const leave = database.listen(process, (payload) => {
        if (isOver) return
        heard()
        if (payload === "") process.run(wake)
      }, () => end("LISTEN: connection lost"))
      heard()
      process.run(wake)
      return Effect.sync(stop)
    })
  }

  #fate(): "well" | "refused" | "answer lost" | "hang" {
    const {
      faults: { hangProbability: hang, loseAnswerProbability: loseAnswer, refuseProbability: refuse },
      world: { random }
    } = this.database
    if (refuse + loseAnswer + hang === 0) return "well"
    const drawn = random.next()
    if (drawn < refuse) return "refused"
    if (drawn < refuse + loseAnswer) return "answer lost"
    return drawn < refuse + loseAnswer + hang ? "hang" : "well"
  }
}

function attempt<A, E>(work: () => Effect.Effect<A, E>): Effect.Effect<A, E> {
  try {
    return work()
  } catch (defect) {
    return Effect.die(defect)
  }
}
