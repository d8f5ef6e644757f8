/** The advisory locks of Control, in one list so that no two are the same. */

/** Any number of our own: it keeps these locks apart from those of other applications in the same database. */
export const lockSpace = 0x43_54_52_4c

export const locks = {
  subnets: 1,
  slots: 2,
  /** Shared by whoever encrypts, until the end of its transaction; alone held by whoever names another writing key. */
  writingKey: 3,
  /** Held by the one process that re-encrypts, as long as its connection lives. */
  rotation: 4
} as const
