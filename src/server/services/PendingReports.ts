/** Bounded queue of reports in which the latest report of a client about one subject replaces the earlier. */

export interface PendingReport {
  /** The client that reports. */
  readonly reporter: string
  /** The subject of the report. */
  readonly subject: string
}

export interface PendingLimits {
  /** Reports in all. Above this limit the oldest report is dropped, because its client will report again. */
  readonly total: number
  /** Reports of one client. Above this limit its own oldest one is dropped, so that it displaces no report of another. */
  readonly perReporter: number
}

/** Reports in the order of arrival. */
export class PendingReports<Report extends PendingReport> {
  readonly #limits: PendingLimits
  readonly #all = new Set<Report>()
  readonly #byReporter = new Map<string, Map<string, Report>>()

  constructor(limits: PendingLimits) {
    this.#limits = limits
  }

  get size(): number {
    return this.#all.size
  }

  set(report: Report): void {
    const own = this.#byReporter.get(report.reporter) ?? new Map<string, Report>()
    const previous = own.get(report.subject)
    if (previous !== undefined) this.delete(previous)
    this.#byReporter.set(report.reporter, own)
    own.set(report.subject, report)
    this.#all.add(report)
    if (own.size > this.#limits.perReporter) this.#deleteFirst(own.values())
    if (this.#all.size > this.#limits.total) this.#deleteFirst(this.#all.values())
  }

  oldest(count: number): ReadonlyArray<Report> {
    return this.#all.values().take(count).toArray()
  }

  /** Deletes this report; does nothing if a later one has replaced it. */
  delete(report: Report): void {
    if (!this.#all.delete(report)) return
    const own = this.#byReporter.get(report.reporter)
    own?.delete(report.subject)
    if (own?.size === 0) this.#byReporter.delete(report.reporter)
  }

  clear(): void {
    this.#all.clear()
    this.#byReporter.clear()
  }

  #deleteFirst(reports: Iterator<Report>): void {
    const { value } = reports.next()
    if (value !== undefined) this.delete(value)
  }
}
