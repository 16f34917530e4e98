// Compares dashboards with the types that Grafana publishes (@grafana/schema), of each release that is installed:
//
//     node tests/grafana/check.mjs DASHBOARD.json...
//
// The dashboard is compared with the type `Dashboard`; the options and the field configuration of each panel are compared with
// the types of its plugin, where Grafana adds the defaults of what is missing. A member that no type knows is an error, too.
import { createRequire } from 'node:module';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const tools = join(dirname(fileURLToPath(import.meta.url)), '../../target/tools/grafana/node_modules');
const ts = createRequire(join(tools, 'x'))('typescript');

const panelTypes = {
    heatmap: ['heatmap', 'Heatmap'],
    stat: ['stat', 'Stat'],
    'state-timeline': ['statetimeline', 'StateTimeline'],
    table: ['table', 'Table'],
    timeseries: ['timeseries', 'TimeSeries'],
};

// JSON has no enums: each enum becomes the union of its values.
function withoutEnums(text) {
    return text.replace(/declare enum (\w+) \{([^}]*)\}/g, (_, name, body) => {
        const values = [...body.matchAll(/= *([^,\n]+)/g)].map((match) => match[1].trim());
        return `type ${name} = ${values.join(' | ')};`;
    });
}

function copyTypes(from, to) {
    mkdirSync(to, { recursive: true });
    for (const name of readdirSync(from)) {
        const [source, target] = [join(from, name), join(to, name)];
        if (statSync(source).isDirectory()) {
            copyTypes(source, target);
        } else if (/\.d\.c?ts$/.test(name)) {
            writeFileSync(target, withoutEnums(readFileSync(source, 'utf8')));
        }
    }
}

function sourceOf(dashboard, raw) {
    const lines = [`import type { Dashboard } from '${raw}/dashboard/x/dashboard_types.gen';`];
    const panels = dashboard.panels.filter((panel) => panel.type !== 'row');
    for (const type of new Set(panels.map((panel) => panel.type))) {
        const [directory, name] = panelTypes[type];
        lines.push(`import type * as ${name} from '${raw}/composable/${directory}/panelcfg/x/${name}PanelCfg_types.gen';`);
    }
    lines.push(`export const dashboard: Dashboard = ${JSON.stringify(dashboard)};`);
    for (const panel of panels) {
        const name = panelTypes[panel.type][1];
        lines.push(`export const options${panel.id}: Partial<${name}.Options> = ${JSON.stringify(panel.options)};`);
        const custom = panel.fieldConfig.defaults.custom;
        if (custom) {
            lines.push(`export const custom${panel.id}: Partial<${name}.FieldConfig> = ${JSON.stringify(custom)};`);
        }
    }
    return lines.join('\n') + '\n';
}

let failures = 0;
for (const release of readdirSync(tools).filter((name) => name.startsWith('grafana'))) {
    const scratch = mkdtempSync(join(tmpdir(), 'dashboards-'));
    const copy = join(scratch, 'node_modules/@grafana/schema');
    copyTypes(join(tools, release, 'dist'), join(copy, 'dist'));
    const { types } = JSON.parse(readFileSync(join(tools, release, 'package.json'), 'utf8'));
    writeFileSync(join(copy, 'package.json'), JSON.stringify({ name: '@grafana/schema', types }));
    // Their place differs by release.
    const raw = ['dist/types/raw', 'dist/esm/raw'].map((place) => join(copy, place)).find((place) => existsSync(place));
    for (const path of process.argv.slice(2)) {
        const file = join(scratch, `${basename(path, '.json')}.ts`);
        writeFileSync(file, sourceOf(JSON.parse(readFileSync(path, 'utf8')), raw));
        const options = { noEmit: true, skipLibCheck: true, strict: false, types: [], moduleResolution: ts.ModuleResolutionKind.Bundler,
            module: ts.ModuleKind.ESNext };
        const diagnostics = ts.getPreEmitDiagnostics(ts.createProgram([file], options));
        for (const found of diagnostics) {
            const message = ts.flattenDiagnosticMessageText(found.messageText, ' ');
            console.log(`${release}: ${path}: ${message}${found.file ? ` at ${found.file.text.slice(found.start, found.start + 60)}` : ''}`);
        }
        failures += diagnostics.length;
        console.log(`${release}: ${path}: ${diagnostics.length === 0 ? 'fits' : 'does not fit'}`);
    }
    rmSync(scratch, { recursive: true });
}
process.exit(failures === 0 ? 0 : 1);
