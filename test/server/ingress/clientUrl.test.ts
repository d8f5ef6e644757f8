/** The URL that new clients are given: the configured one, otherwise an address of the machine. */
import { clientUrl } from "#ingress/clientUrl.ts"
import { assert, describe, it } from "@effect/vitest"
import { Option } from "effect"

const settings = { publicUrl: Option.none<string>(), tlsCertificate: Option.none<string>(), wsHost: "::" }
const addresses = () => ["192.0.2.7", "192.0.2.8"]

describe("the URL for new clients", () => {
  it("CONTROL_PUBLIC_URL takes precedence", () => {
    const publicUrl = Option.some("wss://control.example.com")
    assert.strictEqual(clientUrl({ ...settings, publicUrl }, 3001, addresses), "wss://control.example.com")
  })

  it("a wildcard address is replaced by an address of the machine", () => {
    assert.strictEqual(clientUrl(settings, 3001, addresses), "ws://192.0.2.7:3001")
    assert.strictEqual(clientUrl({ ...settings, wsHost: "0.0.0.0" }, 3001, () => []), "ws://127.0.0.1:3001")
  })

  it("a certificate makes the URL wss, and IPv6 is in brackets", () => {
    const tlsCertificate = Option.some("/etc/tls.pem")
    assert.strictEqual(
      clientUrl({ ...settings, tlsCertificate, wsHost: "2001:db8::1" }, 443),
      "wss://[2001:db8::1]:443"
    )
  })
})
