/** Generates unique identifiers that cannot be guessed. */
import { randomUUID } from "node:crypto"

/** A version 4 UUID (RFC 9562) in lower case. */
export const newId = (): string => randomUUID()
