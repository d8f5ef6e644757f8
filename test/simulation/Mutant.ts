/** Deliberate fault, described as text edits of source files. */

export interface Edit {
  readonly file: string
  /** Occurs exactly once in the file. */
  readonly find: string
  readonly replace: string
}

export interface Mutant {
  readonly name: string
  readonly edits: ReadonlyArray<Edit>
}

/** A mutant with a single edit. */
export const mutant = (name: string, file: string, find: string, replace: string): Mutant => ({
  name,
  edits: [{ file, find, replace }]
})
