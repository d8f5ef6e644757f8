/**
 * Takes chance and turns of the event loop away from the system while a simulation runs. A simulation runs in one go, without
 * ever giving way, so nobody else in this process can meet what is replaced here.
 */
import crypto from "node:crypto"
import { syncBuiltinESMExports } from "node:module"
import type { Random } from "./Random.ts"

/** Where `setImmediate` of the code that runs now leads to. */
export interface EventLoop {
  scheduleImmediate(run: () => void): void
}

interface Running {
  readonly random: Random
  loop: EventLoop | undefined
}

let running: Running | undefined

/** Runs `simulate` with all chance from `random`. */
export const withDeterminism = <A>(random: Random, simulate: () => A): A => {
  install()
  const before = running
  running = { random, loop: undefined }
  try {
    return simulate()
  } finally {
    running = before
  }
}

/** Runs a callback of a simulated process: what it puts off until the next turn goes to that process's own loop. */
export const runInLoop = <A>(loop: EventLoop, run: () => A): A => {
  if (running === undefined) return run()
  const before = running.loop
  running.loop = loop
  try {
    return run()
  } finally {
    running.loop = before
  }
}

let installed = false

function install(): void {
  if (installed) return
  installed = true
  const { randomBytes, randomInt, randomUUID } = crypto
  const immediate = globalThis.setImmediate
  Object.assign(crypto, {
    randomUUID: (...args: Parameters<typeof randomUUID>) =>
      running === undefined ? randomUUID(...args) : uuid(running.random),
    randomBytes: (size: number) => running === undefined ? randomBytes(size) : bytes(running.random, size),
    randomInt: (below: number) => running === undefined ? randomInt(below) : running.random.int(below)
  })
  syncBuiltinESMExports()
  Object.assign(globalThis, {
    setImmediate: Object.assign(
      (run: (...args: ReadonlyArray<unknown>) => void, ...args: Array<unknown>) =>
        running?.loop === undefined ? immediate(run, ...args) : running.loop.scheduleImmediate(run),
      immediate
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
