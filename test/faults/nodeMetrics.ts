/** Reads metrics of a node. */
import type { ControlNode } from "./ControlNode.ts"

/** Value of the first series of a metric. */
export const readMetric = async (node: ControlNode, name: string): Promise<number> => {
  const text = String((await node.operator.get("/metrics")).body)
  const line = text.split("\n").find((each) => each.startsWith(`${name} `) || each.startsWith(`${name}{`))
  return line === undefined ? Number.NaN : Number(line.slice(line.lastIndexOf(" ") + 1))
}

export const formatMebibytes = (bytes: number): string => `${(bytes / 1_048_576).toFixed(0)} MiB`
