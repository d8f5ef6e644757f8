/** Bytes that were written and are not acknowledged yet, by their position in the stream. */

/** Chunks below this size are copied into a shared block, so that many small writes stay cheap. */
const smallChunkBytes = 2_048
const blockBytes = 16_384

interface Chunk {
  readonly start: number
  bytes: Uint8Array
  /** Bytes of the block behind a chunk that are free for more small writes; 0 for a chunk of the caller. */
  free: number
  block: Buffer | undefined
}

export class SendBuffer {
  /** Position of the first byte that is not acknowledged. */
  #start: number
  #end: number
  #chunks: Array<Chunk> = []
  /** Index of the first chunk that is still needed. */
  #head = 0

  /** `start`: position of the first byte. */
  constructor(start: number) {
    this.#start = start
    this.#end = start
  }

  /** Position after the last byte. */
  get end(): number {
    return this.#end
  }

  get length(): number {
    return this.#end - this.#start
  }

  /** Appends bytes. A large chunk is kept without a copy, so the caller must not change it afterwards. */
  append(bytes: Uint8Array): void {
    if (bytes.length === 0) return
    if (bytes.length >= smallChunkBytes) {
      this.#chunks.push({ start: this.#end, bytes, free: 0, block: undefined })
    } else this.#appendSmall(bytes)
    this.#end += bytes.length
  }

  /** Drops all bytes before the position. */
  release(position: number): void {
    this.#start = Math.min(position, this.#end)
    while (this.#head < this.#chunks.length) {
      const chunk = this.#chunks[this.#head]!
      if (chunk.start + chunk.bytes.length > this.#start) break
      this.#head += 1
    }
    if (this.#head === this.#chunks.length) {
      this.#chunks = []
      this.#head = 0
    } else if (this.#head > 64) {
      this.#chunks = this.#chunks.slice(this.#head)
      this.#head = 0
    }
  }

  clear(): void {
    this.#chunks = []
    this.#head = 0
    this.#start = this.#end
  }

  /** Copies the bytes from `position` to `target`. */
  copy(position: number, length: number, target: Buffer, at: number): void {
    let index = this.#indexOf(position)
    let from = position
    let to = at
    for (let left = length; left > 0; index += 1) {
      const chunk = this.#chunks[index]!
      const offset = from - chunk.start
      const count = Math.min(left, chunk.bytes.length - offset)
      target.set(
        offset === 0 && count === chunk.bytes.length ? chunk.bytes : chunk.bytes.subarray(offset, offset + count),
        to
      )
      from += count
      to += count
      left -= count
    }
  }

  #appendSmall(bytes: Uint8Array): void {
    const last = this.#chunks.at(-1)
    if (last?.block !== undefined && last.free >= bytes.length) {
      const used = last.bytes.length
      last.block.set(bytes, used)
      last.bytes = last.block.subarray(0, used + bytes.length)
      last.free -= bytes.length
      return
    }
    const size = last === undefined ? Math.min(blockBytes, Math.max(512, bytes.length)) : blockBytes
    const block = Buffer.allocUnsafeSlow(size)
    block.set(bytes, 0)
    this.#chunks.push({ start: this.#end, bytes: block.subarray(0, bytes.length), free: size - bytes.length, block })
  }

  #indexOf(position: number): number {
    let low = this.#head
    let high = this.#chunks.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (this.#chunks[middle]!.start <= position) low = middle
      else high = middle - 1
    }
    return low
  }
}
