/** Faults that this simulator has found and that are not mended yet: what is true here is let pass. */
export const known = {
  /** Deliveries: what a client has acknowledged or refused outlives a change of the timeline. */
  progressCrossesTimelines: true,
  /** Presence: a touch that does not find its session closes with 4409, also where the row is gone or was set back. */
  touchSaysReplaced: true,
  /** Network: what was committed after a client's deletion, in the same page, is sent to it before it is closed. */
  toldAfterDeletion: true,
  /** Sessions: a drain is told to members whose welcome is still to come. */
  drainBeforeWelcome: true,
  /** Sessions: after a stall, the time to authenticate is judged before the `auth` that waits in the socket is read. */
  authTimeoutIgnoresStalls: true,
  /**
   * Network, HighWater: a backup that is read into the same server within five seconds of a change that clients have seen,
   * while the process that told them is dead, is not noticed once there are as many changes again: who resumes then keeps
   * what was lost.
   */
  restoreIsUnseen: true
}
