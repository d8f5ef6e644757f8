/** TLS contexts of the certificates in the newest view, made when a visitor first asks for a name. */
import type { GatewayView } from "#sdk/view.ts"
import { createSecureContext, type SecureContext } from "node:tls"

type Row = GatewayView["certificates"] extends ReadonlyMap<string, infer Row> ? Row : never

export class Certificates {
  readonly #onProblem: (domain: string, reason: string) => void
  #rows: GatewayView["certificates"] = new Map()
  /** By row. Undefined for a certificate that TLS does not accept. */
  #contexts = new WeakMap<Row, { readonly context: SecureContext | undefined }>()

  constructor(onProblem: (domain: string, reason: string) => void) {
    this.#onProblem = onProblem
  }

  /** Connections that are open keep their certificate. */
  update(rows: GatewayView["certificates"]): void {
    this.#rows = rows
  }

  /** The context for a host name: the certificate of the name, otherwise of the wildcard one label above. */
  readonly secureContext = (serverName: string): SecureContext | undefined => {
    const wildcard = `*${serverName.slice(Math.max(0, serverName.indexOf(".")))}`
    for (const name of [serverName, wildcard]) {
      const row = this.#rows.get(name)
      const context = row === undefined ? undefined : this.#contextOf(row)
      if (context !== undefined) return context
    }
    return undefined
  }

  #contextOf(row: Row): SecureContext | undefined {
    const known = this.#contexts.get(row)
    if (known !== undefined) return known.context
    let context: SecureContext | undefined
    try {
      context = createSecureContext({ cert: row.certificate, key: row.privateKey })
    } catch (error) {
      this.#onProblem(row.domain, error instanceof Error ? error.message : String(error))
    }
    this.#contexts.set(row, { context })
    return context
  }
}
