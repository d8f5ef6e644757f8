/** The matrix of reliability.md, F1 to F40, in its order. */
import { database } from "./faults/database.ts"
import type { Fault } from "./Trial.ts"

export const matrix: ReadonlyArray<Fault> = [...database].toSorted((one, other) => numberOf(one) - numberOf(other))

function numberOf({ id }: Fault): number {
  return Number(id.slice(1))
}
