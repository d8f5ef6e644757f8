/** Loaded into a node before its own code: its wall clock is as far off as its parent says. The monotonic clock is not touched. */
import { channel } from "node:process"

const RealDate = Date
let shiftMillis = 0

process.on("message", (message: { readonly shiftMillis?: number }) => {
  shiftMillis = message.shiftMillis ?? shiftMillis
})
// Listening must not keep the process alive.
channel?.unref()

globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [RealDate.now() + shiftMillis] : args, newTarget),
  get: (target, name, receiver) =>
    name === "now" ? () => RealDate.now() + shiftMillis : Reflect.get(target, name, receiver)
})
