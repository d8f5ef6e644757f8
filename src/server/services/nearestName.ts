/** Finds the name that a mistyped text stands for. Pure. */

/** The candidate with the fewest typing errors, or undefined if each has too many. Case counts for nothing. */
export const nearestName = (text: string, candidates: ReadonlyArray<string>): string | undefined => {
  const given = text.toLowerCase()
  let nearest: string | undefined
  let fewest = maxErrors(given) + 1
  for (const candidate of candidates) {
    const errors = typingErrors(given, candidate.toLowerCase())
    if (errors < fewest) {
      nearest = candidate
      fewest = errors
    }
  }
  return nearest
}

/** A short text with two errors resembles too many names. */
const maxErrors = (text: string): number => text.length <= 3 ? 1 : 2

/** Inserted, missing, wrong and swapped characters (optimal string alignment distance). */
function typingErrors(one: string, other: string): number {
  let beforePrevious: ReadonlyArray<number> = []
  let previous: ReadonlyArray<number> = Array.from({ length: other.length + 1 }, (_, index) => index)
  for (let row = 1; row <= one.length; row++) {
    const current = [row]
    for (let column = 1; column <= other.length; column++) {
      const isSame = one[row - 1] === other[column - 1]
      const isSwap = row > 1 && column > 1 && one[row - 1] === other[column - 2] && one[row - 2] === other[column - 1]
      current[column] = Math.min(
        at(previous, column) + 1,
        at(current, column - 1) + 1,
        at(previous, column - 1) + (isSame ? 0 : 1),
        isSwap ? at(beforePrevious, column - 2) + 1 : Infinity
      )
    }
    beforePrevious = previous
    previous = current
  }
  return at(previous, other.length)
}

const at = (row: ReadonlyArray<number>, column: number): number => row[column] ?? Infinity
