/** Turns of Node's event loop, for code that must let sockets be read first. */
import { Effect } from "effect"

/** Waits for one turn. Everything that had arrived when the turn began has been read when it ends; `Effect.yieldNow` does not promise that. */
export const eventLoopTurn: Effect.Effect<void> = Effect.callback((resume) => {
  setImmediate(() => resume(Effect.void))
})
