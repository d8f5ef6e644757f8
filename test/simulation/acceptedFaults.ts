/** Known faults that are not fixed. The simulator tolerates each fault that is `true` here. */
export const acceptedFaults = {
  /**
   * Network, HighWaterMark: a restore of an older backup can go unnoticed if all of this holds. The node that sent the last
   * changes died within 250 ms after sending them. The backup was restored into the same server before that node restarted.
   * As many new changes as were lost have been committed since. A client that resumes then keeps lost rows.
   */
  unnoticedRestore: true
}
