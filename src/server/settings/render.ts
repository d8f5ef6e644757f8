/** The settings as text for operators: `.env.example` and `docs/settings.md`, rendered from the definitions. */
import { definitions, type PlainSetting, type SecretSetting } from "./definitions.ts"

/** Returns the text of `.env.example`: every setting with its description, its allowed values and its default, commented out. */
export const renderEnvExample = (): string =>
  [
    "# Settings of Control. All are optional; an empty value counts as unset.\n" +
    "# A secret can also be in a file: set NAME_FILE to its path.\n" +
    "# Generated from src/server/settings/definitions.ts with `npx vitest run test/server/settings -u`.\n",
    ...Object.values(definitions).map((setting) =>
      setting.kind === "secret"
        ? `${settingComment(setting)}#${setting.name}=\n#${setting.name}_FILE=\n`
        : `${settingComment(setting)}#${setting.name}=${setting.defaultNote === undefined ? setting.default : ""}\n`
    )
  ].join("\n")

const settingComment = (setting: PlainSetting<unknown> | SecretSetting): string => {
  const note = setting.kind === "plain" && setting.defaultNote !== undefined ? ` Default: ${setting.defaultNote}.` : ""
  return `# ${setting.description}\n# Allowed: ${setting.allowed}.${note}\n`
}

/** `docs/settings.md`: one section for each setting, in the order of the definitions. */
export const renderSettingsPage = (): string =>
  [
    "# Settings\n",
    "Settings are environment variables, and all are optional. Control does not start with an invalid or unknown setting; it",
    "prints every one with the allowed values. A secret can also be in a file: set `NAME_FILE` to the path of the file.\n",
    ...Object.values(definitions).map((setting) => {
      const names = setting.kind === "secret" ? `\`${setting.name}\`, \`${setting.name}_FILE\`` : `\`${setting.name}\``
      return `## ${names}\n\n${setting.description}\n\n- Default: ${
        defaultText(setting)
      }\n- Allowed: ${setting.allowed}\n`
    })
  ].join("\n")

const defaultText = (setting: PlainSetting<unknown> | SecretSetting): string => {
  if (setting.kind === "secret") return "none"
  if (setting.defaultNote !== undefined) return setting.defaultNote
  return setting.default === "" ? "none" : `\`${setting.default}\``
}
