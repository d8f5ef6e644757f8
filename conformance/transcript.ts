/** Transcripts: JSON Lines files in which each line is an action or an expectation. */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { isObject, type Json } from "./pattern.ts"

export interface Line {
  /** Number of the line in the file, from 1. */
  readonly number: number
  readonly text: string
  readonly fields: { readonly [key: string]: Json }
}

export interface Transcript {
  /** File name without extension. */
  readonly name: string
  /** First line; `transcript` is the description. */
  readonly header: { readonly [key: string]: Json }
  readonly lines: ReadonlyArray<Line>
}

/** The client or server did not behave as a line of the transcript requires. */
export class LineFailed extends Error {
  readonly line: Line
  constructor(line: Line, message: string) {
    super(message)
    this.line = line
  }
}

/** The client or server under test cannot be reached, so that the other transcripts cannot pass either. */
export class TargetUnreachable extends Error {}

/** All transcripts of a folder, sorted by name. Throws an `Error` with the file and line if a line is not a JSON object. */
export const readTranscripts = (folder: string): ReadonlyArray<Transcript> =>
  readdirSync(folder)
    .filter((file) => file.endsWith(".jsonl"))
    .toSorted()
    .map((file) => parseTranscript(file.replace(/\.jsonl$/u, ""), readFileSync(join(folder, file), "utf8")))

export const parseTranscript = (name: string, content: string): Transcript => {
  const lines = content.split("\n").map((text, index) => ({ text, number: index + 1 }))
    .filter(({ text }) => text.trim() !== "")
    .map(({ number, text }): Line => ({ number, text, fields: parseLine(`${name}:${number}`, text) }))
  const [header, ...rest] = lines
  if (typeof header?.fields["transcript"] !== "string") throw new Error(`${name}: the first line has no "transcript"`)
  return { name, header: header.fields, lines: rest.filter(({ fields }) => !("note" in fields)) }
}

/** Keys of the lines that wait for something, at most for the line's `within`, with the limit where the line has none. */
const waitingLines = { frame: "5 seconds", expectClose: "5 seconds", accept: "5 seconds", stateFile: "5 seconds" }

/**
 * The transcript with every upper limit of a wait multiplied by `factor`, for a machine that is slow or busy. Lower limits
 * (`notBefore`) stay, so that a client that acts too early still fails.
 */
export const scaleLimits = (transcript: Transcript, factor: number): Transcript => ({
  ...transcript,
  lines: factor === 1 ? transcript.lines : transcript.lines.map((line) => {
    const within = line.fields["within"] ?? Object.entries(waitingLines).find(([key]) => key in line.fields)?.[1]
    if (within === undefined) return line
    return { ...line, fields: { ...line.fields, within: `${millisOf(within, "0 seconds") * factor} milliseconds` } }
  })
})

/** `5 seconds`, `1 second`, `200 milliseconds` or `2 minutes` → milliseconds. */
export const millisOf = (text: Json | undefined, fallback: string): number => {
  const [, amount = "", unit = ""] =
    /^(\d+(?:\.\d+)?) (millisecond|second|minute)s?$/u.exec(String(text ?? fallback)) ??
      []
  const factor = unitMillis[unit]
  if (factor === undefined) throw new Error(`not a duration: ${JSON.stringify(text)}`)
  return Number(amount) * factor
}

const unitMillis: Readonly<Record<string, number>> = { millisecond: 1, second: 1_000, minute: 60_000 }

function parseLine(position: string, text: string): { readonly [key: string]: Json } {
  const failure = new Error(`${position} is not a JSON object: ${text.slice(0, 80)}`)
  try {
    const value = JSON.parse(text) as Json
    if (isObject(value)) return value
  } catch {
    throw failure
  }
  throw failure
}
