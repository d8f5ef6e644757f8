/** Polls conditions of other processes with a time limit. */
import { now, sleep } from "#bench/support/timing.ts"

const pollIntervalMillis = 25

/** Milliseconds until the condition held; undefined when it did not hold within `millis`. */
export const waitUntil = async (
  millis: number,
  condition: () => boolean | Promise<boolean>
): Promise<number | undefined> => {
  const began = now()
  while (true) {
    if (await condition()) return now() - began
    if (now() - began > millis) return undefined
    await sleep(pollIntervalMillis)
  }
}

/** Like `waitUntil`, but throws when the condition does not hold in time, because the run cannot continue without it. */
export const requireWithin = async (
  what: string,
  millis: number,
  condition: () => boolean | Promise<boolean>
): Promise<number> => {
  const took = await waitUntil(millis, condition)
  if (took === undefined) throw new Error(`${what}: not within ${Math.round(millis / 1_000)} s`)
  return took
}

export const formatSeconds = (millis: number): string => `${(millis / 1_000).toFixed(1)} s`

/** Repeats a measurement until it is stopped. */
export class Sampler {
  #isOver = false
  readonly #ended: Promise<void>

  constructor(everyMillis: number, sample: () => Promise<void>) {
    this.#ended = this.#run(everyMillis, sample)
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await this.#ended
  }

  async #run(everyMillis: number, sample: () => Promise<void>): Promise<void> {
    while (!this.#isOver) {
      await sample()
      await sleep(everyMillis)
    }
  }
}
