/** What a node holds while nothing happens. */
import { mustHold } from "./waitUntil.ts"
import { readdir } from "node:fs/promises"
import { megabytes } from "./nodeMetrics.ts"
import type { Stage } from "./TestCluster.ts"

export interface Figures {
  /** Bytes that are in use after a collection. */
  readonly heap: number
  readonly external: number
  readonly rss: number
  /** Open files and sockets; 0 where the system does not list them. */
  readonly descriptors: number
  /** Bytes, and rows in the log of changes. */
  readonly database: number
  readonly changes: number
}

/** Of the stage's first node, which has loaded `preload/collect.ts`. */
export const figuresOf = async (stage: Stage): Promise<Figures> => {
  const { child, pid } = stage.node
  let memory: Pick<Figures, "external" | "heap" | "rss"> | undefined
  child?.once("message", (message: Pick<Figures, "external" | "heap" | "rss">) => memory = message)
  child?.send("collect")
  await mustHold("the node has collected its garbage", 10_000, () => memory !== undefined)
  const [size] = await stage.postgres.query(
    "select pg_database_size(current_database())::float8 as database, (select count(*) from changes)::int as changes"
  )
  return {
    ...memory ?? { heap: Number.NaN, external: Number.NaN, rss: Number.NaN },
    descriptors: (await readdir(`/proc/${pid}/fd`).catch(() => [])).length,
    database: Number(size?.["database"]),
    changes: Number(size?.["changes"])
  }
}

/** Each figure's median, so that one odd rest does not decide. */
export const medianOf = (all: ReadonlyArray<Figures>): Figures => {
  const middle = (which: keyof Figures) =>
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

export const inWords = ({ changes, database, descriptors, external, heap, rss }: Figures): string =>
  `heap ${megabytes(heap)}, external ${megabytes(external)}, RSS ${megabytes(rss)}, ${descriptors} descriptors, ` +
  `database ${megabytes(database)}, ${changes} changes in the log`
