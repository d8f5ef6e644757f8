/** One clock for all processes of a run: CLOCK_MONOTONIC, which `process.hrtime` reads, is the same for all on one machine. */

/** Milliseconds since an arbitrary moment of the machine. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6

export const sleep = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))

/** Rejects with this sentence when the promise takes longer. */
export const withTimeout = async <A>(millis: number, operation: string, promise: Promise<A>): Promise<A> => {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${operation} took longer than ${Math.round(millis / 1_000)} s`)), millis)
  })
  try {
    return await Promise.race([promise, timeout])
  } finally {
    clearTimeout(timer)
  }
}
