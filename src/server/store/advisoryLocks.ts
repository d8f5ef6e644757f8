/** Numbers of all PostgreSQL advisory locks of Control, listed together to keep them distinct. */

/**
 * First key of every lock (`CTRL` in ASCII). It separates these locks from those of other applications in the same
 * database.
 */
export const advisoryLockNamespace = 0x43_54_52_4c

/** Second key of each lock. Nodes of all versions share these locks, so the numbers never change. */
export const advisoryLocks = {
  subnetAllocation: 1,
  slotAllocation: 2,
  /** Shared lock of each transaction that encrypts; exclusive lock of the transaction that changes the writing key. */
  writingKey: 3,
  /** Session lock of the one process that re-encrypts; it ends with the connection. */
  reEncryption: 4
} as const
