/** What a client of `control.v1` keeps beside what a plain one does: its place in the history, and what it says of it. */
import { Buffer } from "node:buffer"

/** Where a client has come to, as it says it when it comes back. */
export interface Position {
  readonly timeline: string
  readonly revision: number
}

/** More than the longest head of a config: its type, revision and timeline. */
export const maxConfigHeadBytes = 128

export class ControlV1State {
  /** Set to acknowledge every step. */
  isAcknowledging: boolean
  /** Acknowledgements so far. */
  acknowledgementCount = 0
  readonly resume: Position | undefined
  #timeline = ""
  #revision = 0
  /** What was received since the last acknowledgement. */
  #pendingAcknowledgements: Array<number> = []

  constructor(resume: Position | undefined, acks: boolean) {
    this.resume = resume
    this.isAcknowledging = acks
    if (resume !== undefined) ({ revision: this.#revision, timeline: this.#timeline } = resume)
  }

  /** What `auth` says beside the key. */
  get authFields(): { readonly resume?: Position } {
    return this.resume === undefined ? {} : { resume: this.resume }
  }

  get position(): Position {
    return { timeline: this.#timeline, revision: this.#revision }
  }

  /** Takes its place from the head of a config. */
  readConfig(data: Buffer, start: number): void {
    const head = data.toString("latin1", start, start + maxConfigHeadBytes)
    const [, revision, timeline] = /^\{"type":"config","revision":(\d+),"timeline":"([^"]+)"/u.exec(head) ?? []
    if (revision === undefined || timeline === undefined) throw new Error(`no place in ${head}`)
    this.#revision = Number(revision)
    this.#timeline = timeline
  }

  /** Whether this frame says that the client goes on from where it was. */
  isResumed(data: Buffer, start: number, end: number): boolean {
    return data.subarray(start, start + authSuccessHead.length).equals(authSuccessHead) &&
      data.subarray(start, end).includes(resumedField)
  }

  /** Takes its place from a step, and remembers to acknowledge it. */
  readDelta(data: Buffer, start: number): void {
    let at = data.indexOf(revisionField, start) + revisionField.length
    let revision = 0
    for (let digit = (data[at] ?? 0) - 48; digit >= 0 && digit < 10; digit = (data[at] ?? 0) - 48) {
      revision = revision * 10 + digit
      at += 1
    }
    this.#revision = revision
    if (this.isAcknowledging) this.#pendingAcknowledgements.push(revision)
  }

  /** The revisions to acknowledge now, each one by itself. */
  drainAcknowledgements(): ReadonlyArray<number> {
    if (this.#pendingAcknowledgements.length === 0) return this.#pendingAcknowledgements
    const due = this.#pendingAcknowledgements
    this.#pendingAcknowledgements = []
    this.acknowledgementCount += due.length
    return due
  }
}

const authSuccessHead = Buffer.from("{\"type\":\"auth_success\"")
const resumedField = Buffer.from("\"resumed\":true")
const revisionField = "\"revision\":"
