/** Chooses the account of PostgreSQL, which refuses to run as root. */
import { Effect } from "effect"
import { randomInt } from "node:crypto"
import { readdirSync, readFileSync, statSync } from "node:fs"
import { stat } from "node:fs/promises"
import { attemptIO } from "./EmbeddedPostgresFailed.ts"
import { clusterDirectory } from "./cluster.ts"
import type { Account } from "./processes.ts"

/** User and group ids that no distribution assigns ("unused" in systemd's UIDS-GIDS), also mapped in user namespaces. */
const ownIds = { first: 60_578, last: 61_183 }

/** User and group id of the account `nobody`, as a number that needs no entry in /etc/passwd. */
const unprivileged = 65_534

/**
 * The account of PostgreSQL; empty unless this process is root. Under root it is the owner of the cluster or of the data
 * directory, if that is not root. Otherwise it is a user id that no other program has, because every process of an account can
 * reach its files through /proc, past the mode of the data directory. A cluster of version 0.2.0 belongs to `nobody` and gets
 * such an id too.
 */
export const accountFor = Effect.fnUntraced(function*(dataDir: string) {
  if (process.getuid?.() !== 0) return {} satisfies Account
  for (const path of [clusterDirectory(dataDir), dataDir]) {
    const status = yield* Effect.orElseSucceed(attemptIO(() => stat(path)), () => undefined)
    const isShared = status?.uid === unprivileged && process.platform === "linux"
    if (status !== undefined && status.uid !== 0 && !isShared)
      return { uid: status.uid, gid: status.gid } satisfies Account
  }
  if (process.platform !== "linux") return { uid: unprivileged, gid: unprivileged } satisfies Account
  const id = yield* attemptIO(unusedId)
  return { uid: id, gid: id } satisfies Account
})

/** An id without an entry in /etc/passwd and without a process. */
const unusedId = (): number => {
  const used = new Set([...listedIds(), ...idsOfProcesses()])
  const count = ownIds.last - ownIds.first + 1
  const start = randomInt(count)
  for (let offset = 0; offset < count; offset += 1) {
    const id = ownIds.first + (start + offset) % count
    if (!used.has(id)) return id
  }
  throw new Error(`all user ids from ${ownIds.first} to ${ownIds.last} are in use; run Control as an ordinary user`)
}

const listedIds = (): ReadonlyArray<number> => {
  try {
    return readFileSync("/etc/passwd", "utf8").split("\n").map((line) => Number(line.split(":")[2]))
  } catch {
    return []
  }
}

const idsOfProcesses = (): ReadonlyArray<number> =>
  readdirSync("/proc").filter((entry) => /^\d+$/u.test(entry)).flatMap((pid) => {
    try {
      return [statSync(`/proc/${pid}`).uid]
    } catch {
      return []
    }
  })
