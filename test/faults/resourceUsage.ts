/** Memory, descriptors and database size of an idle node. */
import { requireWithin } from "./waitUntil.ts"
import { readdir } from "node:fs/promises"
import { formatMebibytes } from "./nodeMetrics.ts"
import type { TestCluster } from "./TestCluster.ts"

export interface ResourceUsage {
  /** Bytes in use after a garbage collection. */
  readonly heap: number
  readonly external: number
  readonly rss: number
  /** Number of open files and sockets; 0 on systems that do not list them. */
  readonly descriptors: number
  /** Bytes of the database, and rows of its change log. */
  readonly database: number
  readonly changes: number
}

/** Measures the first node of the cluster, which must have loaded `preload/collect.ts`. */
export const measureUsage = async (cluster: TestCluster): Promise<ResourceUsage> => {
  const { child, pid } = cluster.node
  let memory: Pick<ResourceUsage, "external" | "heap" | "rss"> | undefined
  child?.once("message", (message: Pick<ResourceUsage, "external" | "heap" | "rss">) => memory = message)
  child?.send("collect")
  await requireWithin("the node has collected its garbage", 10_000, () => memory !== undefined)
  const [size] = await cluster.postgres.query(
    "select pg_database_size(current_database())::float8 as database, (select count(*) from changes)::int as changes"
  )
  return {
    ...memory ?? { heap: Number.NaN, external: Number.NaN, rss: Number.NaN },
    descriptors: (await readdir(`/proc/${pid}/fd`).catch(() => [])).length,
    database: Number(size?.["database"]),
    changes: Number(size?.["changes"])
  }
}

/** Median of each value, so that a single outlier does not matter. */
export const medianOf = (all: ReadonlyArray<ResourceUsage>): ResourceUsage => {
  const middle = (which: keyof ResourceUsage) =>
    all.map((each) => each[which]).toSorted((one, other) => one - other)[all.length >> 1] ?? Number.NaN
  return {
    heap: middle("heap"),
    external: middle("external"),
    rss: middle("rss"),
    descriptors: middle("descriptors"),
    database: middle("database"),
    changes: middle("changes")
  }
}

export const describeUsage = ({ changes, database, descriptors, external, heap, rss }: ResourceUsage): string =>
  `heap ${formatMebibytes(heap)}, external ${formatMebibytes(external)}, RSS ${
    formatMebibytes(rss)
  }, ${descriptors} descriptors, ` +
  `database ${formatMebibytes(database)}, ${changes} changes in the log`
