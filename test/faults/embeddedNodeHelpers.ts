/** Control as in a first installation: one process with its embedded PostgreSQL in one data directory. */
import { type Api, api } from "#support/apiClient.ts"
import { createHash } from "node:crypto"
import { readdirSync, readFileSync, rmSync } from "node:fs"
import { mkdtemp } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join, relative } from "node:path"
import { ControlNode } from "./ControlNode.ts"
import { waitUntil } from "./waitUntil.ts"

export const makeTemporaryDirectory = (): Promise<string> => mkdtemp(join(tmpdir(), "control-faults-embedded-"))

export const makeEmbeddedNode = (dataDir: string, name = "the embedded node"): Promise<ControlNode> =>
  ControlNode.make({ name, dataDir, env: {} })

/** Creates `count` tunnels. Returns the number of acknowledged writes and every response status; 0 without a response. */
export const createTunnels = async (
  operator: Api,
  agentId: string,
  count: number,
  label: string
): Promise<{ acknowledged: number; statuses: ReadonlyArray<number> }> => {
  let acknowledged = 0
  const statuses: Array<number> = []
  for (let index = 0; index < count; index += 1) {
    const status = await operator.post("/api/tunnels", {
      agentId,
      domain: `${label}-${index}.example.com`,
      target: "localhost:8080"
    }).then((answer) => answer.status, () => 0)
    if (status === 201) acknowledged += 1
    statuses.push(status)
  }
  return { acknowledged, statuses }
}

export const operatorApi = (node: ControlNode): Api => api(`http://127.0.0.1:${node.apiPort}`, node.token)

/** Hash over the names and contents of all files of the PostgreSQL cluster. */
export const hashClusterFiles = (dataDir: string): string => {
  const cluster = join(dataDir, "postgres")
  const hash = createHash("sha256")
  const files = readdirSync(cluster, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !/postmaster\.(?:pid|opts)$|\.s\.PGSQL/u.test(path))
    .toSorted()
  for (const path of files) hash.update(relative(cluster, path)).update(readFileSync(path))
  return hash.digest("hex")
}

/** Stops the PostgreSQL that a killed Control has left behind, as the next start of Control would. */
export const stopOrphanedPostgres = async (dataDir: string): Promise<void> => {
  const pidOf = () => {
    try {
      return Number(readFileSync(join(dataDir, "postgres", "postmaster.pid"), "utf8").split("\n")[0])
    } catch {
      return 0
    }
  }
  const pid = pidOf()
  if (pid <= 0) return
  try {
    process.kill(pid, "SIGQUIT")
  } catch {
    return
  }
  await waitUntil(5_000, () => pidOf() !== pid)
}

export const removeDirectory = (path: string): void =>
  rmSync(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
