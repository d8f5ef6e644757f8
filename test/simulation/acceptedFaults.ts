/** Faults that this simulator has found and that are not mended yet: what is true here is let pass. */
export const acceptedFaults = {
  /**
   * Network, HighWater: a backup that is read into the same server within a quarter of a second of a change that clients have seen,
   * while the process that told them is dead, is not noticed once there are as many changes again: who resumes then keeps
   * what was lost.
   */
  unnoticedRestore: true
}
