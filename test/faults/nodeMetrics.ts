/** Figures of a node, as it gives them itself. */
import type { ControlNode } from "./ControlNode.ts"

/** The value of a metric without labels, or with exactly these. */
export const readMetric = async (node: ControlNode, name: string): Promise<number> => {
  const text = String((await node.operator.get("/metrics")).body)
  const line = text.split("\n").find((each) => each.startsWith(`${name} `) || each.startsWith(`${name}{`))
  return line === undefined ? Number.NaN : Number(line.slice(line.lastIndexOf(" ") + 1))
}

export const formatMebibytes = (bytes: number): string => `${(bytes / 1_048_576).toFixed(0)} MiB`
