/** Preloaded into a node: shifts the wall clock by an offset from the parent process, not the monotonic clock. */
import { channel } from "node:process"

const RealDate = Date
let shiftMillis = 0

process.on("message", (message: { readonly shiftMillis?: number }) => {
  shiftMillis = message.shiftMillis ?? shiftMillis
})
// The IPC channel must not keep the process alive.
channel?.unref()

globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [RealDate.now() + shiftMillis] : args, newTarget),
  get: (target, name, receiver) =>
    name === "now" ? () => RealDate.now() + shiftMillis : Reflect.get(target, name, receiver)
})
