/** The load, in a process of its own: groups of clients that do what the orchestrator says, and what they saw. */
import { answerCalls } from "./support/ipcCalls.ts"
import { type Awaited, type Beaten, Group, type Opened, type Opening } from "./support/ClientGroup.ts"

const groups = new Map<string, Group>()

const group = (name: string): Group => {
  const known = groups.get(name)
  if (known !== undefined) return known
  const made = new Group()
  groups.set(name, made)
  return made
}

const handlers = {
  open: ({ name, ...opening }: Opening & { readonly name: string }): Promise<Opened> => group(name).open(opening),
  expect: (
    { after, name, stepsEach }: { readonly name: string; readonly stepsEach: number; readonly after: number }
  ): void => group(name).expect(stepsEach, after),
  received: (
    { name, since, timeoutMillis }: { readonly name: string; readonly since: number; readonly timeoutMillis: number }
  ): Promise<Awaited> => group(name).received(since, timeoutMillis),
  beat: (
    { name, perSecond, seconds }: { readonly name: string; readonly perSecond: number; readonly seconds: number }
  ): Promise<Beaten> => group(name).beat(perSecond, seconds),
  /** The clients of a group read slowly from now on. */
  slow: ({ bytesPerSecond, name }: { readonly name: string; readonly bytesPerSecond: number }): void =>
    group(name).slow(bytesPerSecond),
  /** The clients of a group acknowledge every step from now on, or no longer; how many acknowledgements there were so far. */
  acknowledge: ({ isWanted, name }: { readonly name: string; readonly isWanted: boolean }): number =>
    group(name).acknowledge(isWanted),
  /** The clients go, and the group remembers where they were. */
  leave: (name: string): void => group(name).close(),
  close: (name: string): void => {
    groups.get(name)?.close()
    groups.delete(name)
  },
  /** CPU of this process so far, in milliseconds. */
  cpu: (): number => {
    const { system, user } = process.cpuUsage()
    return (system + user) / 1_000
  }
}
export type LoadHandlers = typeof handlers

answerCalls(handlers)
process.on("disconnect", () => process.exit())
