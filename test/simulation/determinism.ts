/**
 * Replaces system randomness and `setImmediate` while a simulation runs. A simulation runs synchronously, so no other code
 * of this process sees the replacements.
 */
import crypto from "node:crypto"
import { syncBuiltinESMExports } from "node:module"
import type { Random } from "./Random.ts"

/** Target of `setImmediate` calls in the code that runs now. */
export interface EventLoop {
  scheduleImmediate(run: () => void): void
}

interface ActiveSimulation {
  readonly random: Random
  loop: EventLoop | undefined
}

let active: ActiveSimulation | undefined

/** Runs `simulate`; all randomness comes from `random`. */
export const withDeterminism = <A>(random: Random, simulate: () => A): A => {
  install()
  const previous = active
  active = { random, loop: undefined }
  try {
    return simulate()
  } finally {
    active = previous
  }
}

/** Runs a callback of a simulated process. Its `setImmediate` calls go to that process's event loop. */
export const runInLoop = <A>(loop: EventLoop, run: () => A): A => {
  if (active === undefined) return run()
  const previous = active.loop
  active.loop = loop
  try {
    return run()
  } finally {
    active.loop = previous
  }
}

let installed = false

function install(): void {
  if (installed) return
  installed = true
  const { randomBytes, randomInt, randomUUID } = crypto
  const realSetImmediate = globalThis.setImmediate
  Object.assign(crypto, {
    randomUUID: (...args: Parameters<typeof randomUUID>) =>
      active === undefined ? randomUUID(...args) : uuid(active.random),
    randomBytes: (size: number) => active === undefined ? randomBytes(size) : bytes(active.random, size),
    randomInt: (below: number) => active === undefined ? randomInt(below) : active.random.int(below)
  })
  syncBuiltinESMExports()
  Object.assign(globalThis, {
    setImmediate: Object.assign(
      (run: (...args: ReadonlyArray<unknown>) => void, ...args: Array<unknown>) =>
        active?.loop === undefined ? realSetImmediate(run, ...args) : active.loop.scheduleImmediate(run),
      realSetImmediate
    )
  })
}

function bytes(random: Random, size: number): Buffer {
  const buffer = Buffer.allocUnsafe(size)
  for (let at = 0; at < size; at++) buffer[at] = random.int(256)
  return buffer
}

function uuid(random: Random): string {
  const hex = (digits: number) =>
    Array.from({ length: digits / 4 }, () => random.int(65_536).toString(16).padStart(4, "0")).join("")
  return `${hex(8)}-${hex(4)}-4${hex(4).slice(1)}-a${hex(4).slice(1)}-${hex(12)}`
}
