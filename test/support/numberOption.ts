/** Reads numeric options of the programs that test Control, because a run of NaN seeds would test nothing and pass. */

/** Exits with 2 if `text` is not a whole number of at least `min`. */
export const numberOption = (name: string, text: string, min = 1): number => {
  const value = text.trim() === "" ? Number.NaN : Number(text)
  if (Number.isSafeInteger(value) && value >= min) return value
  process.stderr.write(`--${name} ${text}: use a whole number of at least ${min}\n`)
  return process.exit(2)
}
