/**
 * Preloaded into a node: turns every Effect function of `src` into a failpoint that throws once when the parent process
 * arms it. The tested code needs no failpoints.
 */
import type { Effect } from "effect"
import { registerHooks } from "node:module"
import { sep } from "node:path"
import { fileURLToPath } from "node:url"

type Body = (...args: ReadonlyArray<unknown>) => unknown
type Maker = (body: Body, ...rest: ReadonlyArray<unknown>) => Body

let armed = ""
/** Functions called since the last request of the parent process. */
const called = new Set<string>()

process.on("message", (message: { readonly arm?: string; readonly list?: boolean }) => {
  if (message.arm !== undefined) armed = message.arm
  if (message.list === true) {
    process.send?.({ points: [...called] })
    called.clear()
  }
})
// The IPC channel must not keep the process alive.
process.channel?.unref()

/** Replaces `Effect.fn(name)` and `Effect.fnUntraced` in the instrumented source. */
const failpoint = (name: string, effect: typeof Effect, make: Maker): Maker => {
  return (body, ...rest) => {
    const run = make(body, ...rest)
    return (...args) => {
      called.add(name)
      if (armed !== name) return run(...args)
      armed = ""
      process.send?.({ fired: name })
      return effect.die(new Error(`failpoint ${name}`))
    }
  }
}
Object.assign(globalThis, { controlFailpoint: failpoint })

registerHooks({
  load: (url, context, nextLoad) => {
    const loaded = nextLoad(url, context)
    if (!url.startsWith("file:") || loaded.source === undefined || loaded.source === null) return loaded
    const [, path] = fileURLToPath(url).split(`${sep}src${sep}`)
    if (path === undefined || url.includes("node_modules")) return loaded
    let count = 0
    const source = String(
      typeof loaded.source === "string" ? loaded.source : Buffer.from(loaded.source as Uint8Array).toString("utf8")
    )
      .replaceAll(
        /Effect\.fn\("([^"]+)"\)\(/gu,
        (_, name: string) => `globalThis.controlFailpoint("${name}", Effect, Effect.fn("${name}"))(`
      )
      .replaceAll(
        /Effect\.fnUntraced\(/gu,
        () => `globalThis.controlFailpoint("${path}#${count += 1}", Effect, Effect.fnUntraced)(`
      )
    return { ...loaded, source }
  }
})
