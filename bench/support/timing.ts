/** Clock shared by all processes of a run: `process.hrtime` reads CLOCK_MONOTONIC of the machine. */

/** Milliseconds since a fixed moment, comparable between processes of one machine. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6

export const sleep = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))

/** Rejects with an error that names `operation` if the promise takes longer than `millis`. */
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
