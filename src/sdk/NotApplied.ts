/** The error of an `apply` that could not apply a view in full. What could be applied is in use. */
export class NotApplied extends Error {
  /** Reason for programs, for example `port_in_use`. */
  readonly code: string
  readonly tunnelId: string | undefined

  constructor(code: string, message: string, tunnelId?: string) {
    super(message)
    this.code = code
    this.tunnelId = tunnelId
  }
}
