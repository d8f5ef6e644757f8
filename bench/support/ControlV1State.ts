/** What a client of `control.v1` keeps beside what a plain one does: its place in the history, and what it says of it. */
import { Buffer } from "node:buffer"

/** Where a client has come to, as it says it when it comes back. */
export interface Place {
  readonly timeline: string
  readonly revision: number
}

/** More than the longest head of a config: its type, revision and timeline. */
export const headBytes = 128

export class V1 {
  /** Set to acknowledge every step. */
  acks: boolean
  /** Acknowledgements so far. */
  acked = 0
  readonly resume: Place | undefined
  #timeline = ""
  #revision = 0
  /** What was received since the last acknowledgement. */
  #due: Array<number> = []

  constructor(resume: Place | undefined, acks: boolean) {
    this.resume = resume
    this.acks = acks
    if (resume !== undefined) ({ revision: this.#revision, timeline: this.#timeline } = resume)
  }

  /** What `auth` says beside the key. */
  get auth(): { readonly resume?: Place } {
    return this.resume === undefined ? {} : { resume: this.resume }
  }

  get place(): Place {
    return { timeline: this.#timeline, revision: this.#revision }
  }

  /** Takes its place from the head of a config. */
  config(data: Buffer, start: number): void {
    const head = data.toString("latin1", start, start + headBytes)
    const [, revision, timeline] = /^\{"type":"config","revision":(\d+),"timeline":"([^"]+)"/u.exec(head) ?? []
    if (revision === undefined || timeline === undefined) throw new Error(`no place in ${head}`)
    this.#revision = Number(revision)
    this.#timeline = timeline
  }

  /** Whether this frame says that the client goes on from where it was. */
  isResumed(data: Buffer, start: number, end: number): boolean {
    return data.subarray(start, start + welcome.length).equals(welcome) && data.subarray(start, end).includes(resumed)
  }

  /** Takes its place from a step, and remembers to acknowledge it. */
  step(data: Buffer, start: number): void {
    let at = data.indexOf(revisionName, start) + revisionName.length
    let revision = 0
    for (let digit = (data[at] ?? 0) - 48; digit >= 0 && digit < 10; digit = (data[at] ?? 0) - 48) {
      revision = revision * 10 + digit
      at += 1
    }
    this.#revision = revision
    if (this.acks) this.#due.push(revision)
  }

  /** The revisions to acknowledge now, each one by itself. */
  takeDue(): ReadonlyArray<number> {
    if (this.#due.length === 0) return this.#due
    const due = this.#due
    this.#due = []
    this.acked += due.length
    return due
  }
}

const welcome = Buffer.from("{\"type\":\"auth_success\"")
const resumed = Buffer.from("\"resumed\":true")
const revisionName = "\"revision\":"
