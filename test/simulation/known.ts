/** Faults that this simulator has found and that are not mended yet: what is true here is let pass. */
export const known = {
  /** Deliveries: an acknowledgement that was under way when the timeline changed is answered with `ack_ahead`. */
  lateAckIsAhead: true,
  /** Network: what was committed after a client's deletion, in the same page, is sent to it before it is closed. */
  toldAfterDeletion: true,
  /**
   * Network, HighWater: a backup that is read into the same server within five seconds of a change that clients have seen,
   * while the process that told them is dead, is not noticed once there are as many changes again: who resumes then keeps
   * what was lost.
   */
  restoreIsUnseen: true
}
