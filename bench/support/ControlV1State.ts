/** Additional state of a `control.v1` client: its position and its pending acknowledgements. */
import { Buffer } from "node:buffer"

/** Position that a client sends in `auth.resume`. */
export interface Position {
  readonly timeline: string
  readonly revision: number
}

/** Upper bound for the head of a config: type, revision and timeline. */
export const maxConfigHeadBytes = 128

export class ControlV1State {
  /** Set to acknowledge every delta. */
  isAcknowledging: boolean
  /** Acknowledgements so far. */
  acknowledgementCount = 0
  readonly resume: Position | undefined
  #timeline = ""
  #revision = 0
  /** Revisions received since the last call of `drainAcknowledgements`. */
  #pendingAcknowledgements: Array<number> = []

  constructor(resume: Position | undefined, acks: boolean) {
    this.resume = resume
    this.isAcknowledging = acks
    if (resume !== undefined) ({ revision: this.#revision, timeline: this.#timeline } = resume)
  }

  /** Fields of `auth` in addition to the API key. */
  get authFields(): { readonly resume?: Position } {
    return this.resume === undefined ? {} : { resume: this.resume }
  }

  get position(): Position {
    return { timeline: this.#timeline, revision: this.#revision }
  }

  /** Sets the position from the head of a config. */
  readConfig(data: Buffer, start: number): void {
    const head = data.toString("latin1", start, start + maxConfigHeadBytes)
    const [, revision, timeline] = /^\{"type":"config","revision":(\d+),"timeline":"([^"]+)"/u.exec(head) ?? []
    if (revision === undefined || timeline === undefined) throw new Error(`no revision and timeline in config ${head}`)
    this.#revision = Number(revision)
    this.#timeline = timeline
  }

  /** Returns whether this frame is an `auth_success` with `resumed: true`. */
  isResumed(data: Buffer, start: number, end: number): boolean {
    return data.subarray(start, start + authSuccessHead.length).equals(authSuccessHead) &&
      data.subarray(start, end).includes(resumedField)
  }

  /** Sets the position from a delta and queues its acknowledgement. */
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

  /** Removes and returns the revisions to acknowledge, one message each. */
  drainAcknowledgements(): ReadonlyArray<number> {
    if (this.#pendingAcknowledgements.length === 0) return this.#pendingAcknowledgements
    const revisions = this.#pendingAcknowledgements
    this.#pendingAcknowledgements = []
    this.acknowledgementCount += revisions.length
    return revisions
  }
}

const authSuccessHead = Buffer.from("{\"type\":\"auth_success\"")
const resumedField = Buffer.from("\"resumed\":true")
const revisionField = "\"revision\":"
