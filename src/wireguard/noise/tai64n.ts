/** TAI64N timestamps of initiations, which rise although the wall clock is set back. */
import { timestampBytes } from "./constants.ts"

/** TAI64 label of 1970 plus the 10 leap seconds of that time. */
const epoch = 0x400000000000000an

export class Timestamps {
  #last = 0n

  /** Next timestamp for `wallMillis` since 1970: at least one nanosecond after the last one. */
  next(wallMillis: number): Buffer {
    const wall = Number.isFinite(wallMillis) ? BigInt(Math.max(0, Math.floor(wallMillis))) * 1_000_000n : 0n
    this.#last = wall > this.#last ? wall : this.#last + 1n
    const timestamp = Buffer.allocUnsafe(timestampBytes)
    timestamp.writeBigUInt64BE(epoch + this.#last / 1_000_000_000n)
    timestamp.writeUInt32BE(Number(this.#last % 1_000_000_000n), 8)
    return timestamp
  }
}
