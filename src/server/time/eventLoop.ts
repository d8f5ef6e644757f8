/** Turns of Node's event loop, for code that must let the sockets be read before it judges. */
import { Effect } from "effect"

/** One turn: what had arrived when it began has been read when it ends. `Effect.yieldNow` does not promise that. */
export const loopTurn: Effect.Effect<void> = Effect.callback((resume) => {
  setImmediate(() => resume(Effect.void))
})
