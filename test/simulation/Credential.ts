/** API key of a simulated client. */
import { hashApiKey } from "#crypto/apiKeys.ts"
import type { ClientRef } from "#schema/ids.ts"

/** An API key as its client holds it. */
export interface Credential {
  readonly ref: ClientRef
  readonly text: string
  readonly hash: string
}

export const credential = (ref: ClientRef, text: string): Credential => ({ ref, text, hash: hashApiKey(text) })
