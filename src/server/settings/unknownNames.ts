/** Finds settings whose name was mistyped: they must not pass silently as if the default had been wanted. */
import { knownNames } from "./definitions.ts"

/** Names in `env` that begin like a setting of Control and are none, each with the name that was likely meant. */
export const unknownNames = (
  env: Readonly<Record<string, string | undefined>>
): ReadonlyArray<{ readonly name: string; readonly nearest: string | undefined }> =>
  Object.entries(env)
    .filter(([name, value]) =>
      name.startsWith("CONTROL_") && value !== undefined && value !== "" && !knownNames.includes(name) &&
      name !== ofTheCommandLine &&
      !isServiceLink(name, value)
    )
    .map(([name]) => ({ name, nearest: nearestName(name) }))

/** Where `control` asks: no setting of the server's, and no mistake beside them. */
const ofTheCommandLine = "CONTROL_API_URL"

/** Kubernetes sets variables such as `CONTROL_PORT=tcp://…` in every pod beside a service that is called `control`. */
const isServiceLink = (name: string, value: string): boolean =>
  /^(?:tcp|udp):\/\//u.test(value) || /_SERVICE_(?:HOST|PORT(?:_\w+)?)$|_PORT_\d+_(?:TCP|UDP)/u.test(name)

/** None where a third of the letters would have to be others: that is no slip of the fingers. */
const nearestName = (name: string): string | undefined => {
  const nearest = knownNames.reduce((nearest, known) =>
    editDistance(name, known) < editDistance(name, nearest) ? known : nearest
  )
  return editDistance(name, nearest) <= (name.length - "CONTROL_".length) / 3 ? nearest : undefined
}

/** Levenshtein's distance, one row of the matrix at a time. */
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
