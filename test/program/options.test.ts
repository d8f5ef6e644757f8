/** Options of programs: their sources, their order, and every problem at once. */
import { agentOptions } from "#agent/options.ts"
import { gatewayOptions } from "#gateway/options.ts"
import { type ParsedOptions, readOptions } from "#program/options.ts"
import { optionsPage } from "#program/optionsPage.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { assert, describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { writeFileSync } from "node:fs"
import { join } from "node:path"

const required = { CONTROL_URL: "ws://192.0.2.1:3001", CONTROL_API_KEY: "ctl_gw_1_secret" }
const read = (args: ReadonlyArray<string>, environment: Record<string, string> = required) =>
  readOptions(gatewayOptions, args, environment)

const valuesOf = (parsed: ParsedOptions<typeof gatewayOptions>) => {
  assert(parsed._tag === "Values", JSON.stringify(parsed))
  return parsed.values
}

const problemsOf = (parsed: ParsedOptions<typeof gatewayOptions>) => {
  assert(parsed._tag === "Problems", JSON.stringify(parsed))
  return parsed.problems.join("\n")
}

describe("options of a program", () => {
  it("defaults apply, and the environment sets every option", () => {
    const values = valuesOf(read([], { ...required, CONTROL_GATEWAY_HTTP_PORT: "8080", CONTROL_GATEWAY_ONCE: "yes" }))
    assert.deepInclude(values, {
      httpPort: 8080,
      httpsPort: 443,
      once: true,
      device: "auto",
      url: required.CONTROL_URL
    })
    assert.strictEqual(values.drainTimeout, 30)
    assert.isUndefined(values.metrics)
  })

  it.effect("the command line precedes the env file, which precedes the environment", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "edge.env")
      writeFileSync(
        file,
        "CONTROL_API_KEY=ctl_gw_2_file\nCONTROL_GATEWAY_HTTP_PORT=81\nCONTROL_GATEWAY_HTTPS_PORT=444\n"
      )
      const values = valuesOf(
        read(["--env-file", file, "--http-port=82"], { ...required, CONTROL_GATEWAY_HTTPS_PORT: "445" })
      )
      assert.deepInclude(values, { apiKey: "ctl_gw_2_file", httpPort: 82, httpsPort: 444 })
    }))

  it.effect("a secret can be in a file", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "key")
      writeFileSync(file, "ctl_gw_3_key\n")
      const values = valuesOf(read([], { CONTROL_URL: required.CONTROL_URL, CONTROL_API_KEY_FILE: file }))
      assert.strictEqual(values.apiKey, "ctl_gw_3_key")
    }))

  it("every problem is named with its value and what is allowed, and no secret is", () => {
    const problems = problemsOf(read(["--device", "tap", "--metrics", "9100", "--bind", "example.com"], {
      CONTROL_API_KEY: "two words",
      CONTROL_GATEWAY_HTTP_PORT: "80000"
    }))
    for (
      const text of [
        "--url or CONTROL_URL is missing",
        "CONTROL_API_KEY must be an API key",
        "CONTROL_GATEWAY_HTTP_PORT is \"80000\", but must be a port",
        "--device is \"tap\", but must be auto, userspace or kernel",
        "--metrics is \"9100\", but must be HOST:PORT",
        "--bind is \"example.com\", but must be IP addresses"
      ]
    ) assert.include(problems, text)
    assert.notInclude(problems, "two words")
  })

  it("a key on the command line is rejected, because other users can read it", () => {
    assert.include(problemsOf(read(["--api-key", "ctl_gw_1_secret"])), "unknown option '--api-key'")
  })

  it("a list can be repeated or separated by commas", () => {
    const values = valuesOf(read(["--bind", "192.0.2.1", "--bind", "::1,192.0.2.2"]))
    assert.deepStrictEqual(values.bind, ["192.0.2.1", "::1", "192.0.2.2"])
  })

  it("docs/agent.md and docs/gateway.md list every option (update them with vitest -u)", async () => {
    await expect(optionsPage("agent", agentOptions)).toMatchFileSnapshot("../../docs/agent.md")
    await expect(optionsPage("gateway", gatewayOptions)).toMatchFileSnapshot("../../docs/gateway.md")
  })
})
