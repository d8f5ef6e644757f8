/** Send window: the right edge that the peer allows (RFC 9293 section 3.10.7.4). */

export class PeerWindow {
  /** Position after the last byte that the peer accepts. */
  edge = 1
  /** Sequence position of the segment that has set the edge. */
  #start = 0

  begin(edge: number, start: number): void {
    this.edge = edge
    this.#start = start
  }

  /**
   * Takes the window of a segment. `isNewAck`: the segment acknowledges new bytes. A segment that was overtaken by a newer one changes
   * nothing. Returns whether the window stays the same.
   */
  update(start: number, edge: number, isNewAck: boolean): boolean {
    if (edge === this.edge) return true
    if (isNewAck || start > this.#start || start === this.#start && edge > this.edge) {
      this.#start = start
      this.edge = edge
    }
    return false
  }
}
