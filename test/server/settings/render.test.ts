/** `.env.example` and `docs/settings.md` against the definitions of the settings. */
import { defaults, readSettings } from "#server/Settings.ts"
import { renderEnvExample, renderSettingsPage } from "#settings/render.ts"
import { assert, describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"

describe("the rendered settings", () => {
  it(".env.example is generated from the definitions (update it with vitest -u)", () =>
    expect(renderEnvExample()).toMatchFileSnapshot("../../../.env.example"))

  it("docs/settings.md is generated from the definitions (update it with vitest -u)", () =>
    expect(renderSettingsPage()).toMatchFileSnapshot("../../../docs/settings.md"))

  it.effect("the values in .env.example are the defaults", () =>
    Effect.gen(function*() {
      const assignments = renderEnvExample().split("\n").flatMap((line) => {
        const [, name, value] = /^#([A-Z_]+)=(.*)$/u.exec(line) ?? []
        return name === undefined || value === undefined ? [] : [[name, value] as const]
      })
      assert.isAbove(assignments.length, 18)
      assert.deepStrictEqual(yield* readSettings(Object.fromEntries(assignments), false), defaults)
    }))
})
