// What the modules of the page speak of, for those who check them: nothing here is part of the page.

/** A column holds a value a song; groups, folders and days are numbers into the lists beside them. */
export interface Songs {
  id: string[]; title: string[]; artists: number[][];
  credit: (string | null)[]; album: number[]; genres: number[][]; year: (number | null)[];
  day: number[]; seconds: (number | null)[]; place: Record<number, [number, number | null]>;
  cluster: number[]; x: number[]; y: number[];
}
export interface Data {
  counts: {songs: number; artists: number; hours: number; on_map: number; shown: number; failures: number};
  facts: string; palette: string[]; ramp: string[];
  artists: string[]; genres: string[]; albums: string[]; days: string[];
  songs: Songs;
  clusters: {id: number; name: string; typical: number; color: string}[];
  growth: [string, number][];
  models: [string, string, boolean, number | null, number | null, number | null][];
}
export interface Files {folders: string[]; folder: number[]; file: string[]; failures: [string, string, string][]}
/** n * k numbers in base64: rows, n where there is none; and what they are alike, 255 for the same. */
export interface Neighbors {k: number; rows: string; similarities: string}
export interface Found {song: number; similarity: number}
export interface Group {name: string; color?: string; typical?: number; short?: string}
/** A way of grouping songs: the group of each, -1 for none, and the groups with their members. */
export interface Way {
  of: number[]; all?: number[][]; groups: Group[]; none: string; members: number[][]; rest: number[];
  /** Colours by a value of the song itself, and what the two ends of their scale are. */
  tints?: (string | null)[]; ends?: [string, string];
}
/** A song in the queue, and the second to start it at. */
export interface Entry {song: number; from: number}
/** What is looked at in the list. A group is its number, -1 for songs without one. */
export interface Place {tab: string; of?: string; group?: number; song?: number; lens?: string}
export interface Moments {
  song: number; at: number;
  /** null while asking */
  found: {error?: string; from_s: number; to_s: number; moments: {song: string; from_s: number; to_s: number; similarity: number}[]} | null;
}
export interface Listened {queue: Entry[]; at: number; name: string}
export interface State extends Listened {
  by: string; place: Place; query: string; moments: Moments; pointed: number | null;
  selected: number[]; picking: boolean; endless: boolean; dark: boolean;
}
export type Box = [number, number, number, number];

declare global {
  const Plotly: any;
}
