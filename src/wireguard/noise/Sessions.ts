/** The sessions of one peer: previous, current and next, exchanged as the Linux implementation does. */
import type { Session } from "./Session.ts"

export class Sessions {
  /** Seals. */
  current: Session | undefined
  /** Opens messages that were sent before the peer changed to the current one. */
  #previous: Session | undefined
  /** Made by this end as the responder. The first message of the peer proves that the peer has it, and makes it current. */
  #next: Session | undefined
  readonly #onRemove: (session: Session) => void

  /** `onRemove` runs for each session that ends, whose keys are erased already. */
  constructor(onRemove: (session: Session) => void) {
    this.#onRemove = onRemove
  }

  add(session: Session): void {
    if (session.isInitiator) {
      this.#drop(this.#previous)
      if (this.#next === undefined) this.#previous = this.current
      else {
        this.#previous = this.#next
        this.#next = undefined
        this.#drop(this.current)
      }
      this.current = session
    } else {
      this.#drop(this.#next)
      this.#drop(this.#previous)
      this.#previous = undefined
      this.#next = session
    }
  }

  /** Makes `session` current if the peer had to confirm it. Returns true in this case. */
  confirm(session: Session): boolean {
    if (session !== this.#next) return false
    this.#drop(this.#previous)
    this.#previous = this.current
    this.current = session
    this.#next = undefined
    return true
  }

  clear(): void {
    for (const session of [this.#previous, this.current, this.#next]) this.#drop(session)
    this.#previous = undefined
    this.current = undefined
    this.#next = undefined
  }

  #drop(session: Session | undefined): void {
    if (session === undefined) return
    session.erase()
    this.#onRemove(session)
  }
}
