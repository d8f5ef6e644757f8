/** Status of a tunnel's target, from probes and from the visitors' connections. */
import type { Clock, Timer } from "#processes/clock.ts"

/** `starting`: not known yet. */
export interface Status {
  readonly status: "starting" | "active" | "target-unreachable"
  /** Reason of an unreachable target; undefined otherwise. */
  readonly detail: string | undefined
}

/** Interval of probes of a target that is reachable. */
const probeIntervalMillis = 30_000

/** Delays between probes of an unreachable target: from the first to the longest, doubled each time. */
const minRetryMillis = 500
const maxRetryMillis = 15_000

export class TargetStatus {
  readonly #clock: Clock
  readonly #probe: (done: (problem: string | undefined) => void) => void
  readonly #onChange: () => void
  #status: Status = { status: "starting", detail: undefined }
  #retryMillis = minRetryMillis
  #timer: Timer | undefined
  #isClosed = false

  /** `probe` calls back exactly once. */
  constructor(clock: Clock, probe: (done: (problem: string | undefined) => void) => void, onChange: () => void) {
    this.#clock = clock
    this.#probe = probe
    this.#onChange = onChange
    this.#runProbe()
  }

  get current(): Status {
    return this.#status
  }

  /** Records the outcome of a connection to the target. `problem` is undefined for a connection that was made. */
  record(problem: string | undefined): void {
    if (this.#isClosed) return
    const next: Status = problem === undefined
      ? { status: "active", detail: undefined }
      : { status: "target-unreachable", detail: problem }
    const isNews = next.status !== this.#status.status || next.detail !== this.#status.detail
    // A visitor's failed connection starts the probes at once, so that the recovery is noticed within a second.
    if (next.status !== this.#status.status) this.#schedule(next)
    this.#status = next
    if (isNews) this.#onChange()
  }

  close(): void {
    this.#isClosed = true
    this.#timer?.cancel()
  }

  #runProbe(): void {
    this.#probe((problem) => {
      if (this.#isClosed) return
      this.record(problem)
      this.#schedule(this.#status)
    })
  }

  #schedule({ status }: Status): void {
    this.#timer?.cancel()
    if (status === "active") this.#retryMillis = minRetryMillis
    const delay = status === "active" ? probeIntervalMillis : this.#retryMillis
    if (status !== "active") this.#retryMillis = Math.min(maxRetryMillis, this.#retryMillis * 2)
    this.#timer = this.#clock.after(delay, () => this.#runProbe())
  }
}
