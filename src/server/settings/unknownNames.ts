/** Misspelled settings, which would otherwise silently leave the default in use. */
import { knownNames } from "./definitions.ts"

/** Returns the `CONTROL_…` variables of `env` that are no settings, each with the most similar setting. */
export const unknownNames = (
  env: Readonly<Record<string, string | undefined>>
): ReadonlyArray<{ readonly name: string; readonly nearest: string | undefined }> =>
  Object.entries(env)
    .filter(([name, value]) =>
      name.startsWith("CONTROL_") && value !== undefined && value !== "" && !knownNames.includes(name) &&
      name !== cliOnlyName &&
      !isServiceLink(name, value)
    )
    .map(([name]) => ({ name, nearest: nearestName(name) }))

/** A variable of the command line only. */
const cliOnlyName = "CONTROL_API_URL"

/** Kubernetes sets variables such as `CONTROL_PORT=tcp://…` in every pod if a service is named `control`. */
const isServiceLink = (name: string, value: string): boolean =>
  /^(?:tcp|udp):\/\//u.test(value) || /_SERVICE_(?:HOST|PORT(?:_\w+)?)$|_PORT_\d+_(?:TCP|UDP)/u.test(name)

/** Undefined if more than a third of the letters differ, because the name is then no misspelling. */
const nearestName = (name: string): string | undefined => {
  const nearest = knownNames.reduce((nearest, known) =>
    editDistance(name, known) < editDistance(name, nearest) ? known : nearest
  )
  return editDistance(name, nearest) <= (name.length - "CONTROL_".length) / 3 ? nearest : undefined
}

/** Levenshtein distance, computed one row of the matrix at a time. */
const editDistance = (from: string, to: string): number => {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (const [index, letter] of [...from].entries()) {
    const next = [index + 1]
    for (const [column, other] of [...to].entries()) {
      next.push(Math.min(
        (next[column] ?? 0) + 1,
        (row[column + 1] ?? 0) + 1,
        (row[column] ?? 0) + (letter === other ? 0 : 1)
      ))
    }
    row = next
  }
  return row[to.length] ?? 0
}
