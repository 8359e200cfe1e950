"""The style sheets: one for what is drawn, one for the page around it.

Light and dark, screen and paper differ in the few variables at the top alone.
"""

from __future__ import annotations

_LIGHT = """--ink:#1c2127;--soft:#5a6470;--faint:#dfe4e9;--ground:#fff;--card:#fff;--edge:#dde2e8;--well:#cfe6f5;--grey:#8a949e;--blue:#0072b2;
--hatch:rgba(255,255,255,.75);--good:#00684c;--bad:#a84300;--band:rgba(0,114,178,.16);--shade:rgba(90,100,112,.10)"""
_DARK = """--ink:#e8ebee;--soft:#a3adb8;--faint:#2f363e;--ground:#14181c;--card:#1b2026;--edge:#2f363e;--well:#2b4f66;--grey:#737d87;--blue:#3d9bd9;
--hatch:rgba(0,0,0,.55);--good:#4fc3a1;--bad:#ff9a57;--band:rgba(86,180,233,.22);--shade:rgba(163,173,184,.12)"""
_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif"

_MARKS = """
svg text{font-size:12px;fill:var(--ink);font-variant-numeric:tabular-nums}
svg .tick,svg .unit,svg .aside{fill:var(--soft);font-size:11px}
svg .label{font-size:12px}svg .small{font-size:10px}
svg .grid{stroke:var(--faint);stroke-width:1;shape-rendering:crispEdges}
svg .zero{stroke:var(--soft);stroke-width:1;shape-rendering:crispEdges}
svg .hatch{stroke:var(--hatch);stroke-width:1.2;fill:none}
svg .line{fill:none;stroke-width:2;stroke-linejoin:round;vector-effect:non-scaling-stroke}
svg .halo{fill:none;stroke:#fff;stroke-width:5;vector-effect:non-scaling-stroke}
svg .boundary{fill:none;stroke:#000;stroke-width:2;stroke-dasharray:7 4;vector-effect:non-scaling-stroke}
svg .band{fill:var(--band)}svg .shade{fill:var(--shade)}
svg .lane rect,svg .part rect,svg .cells rect{shape-rendering:crispEdges}
svg .outline{fill:none;stroke:var(--edge);stroke-width:1;shape-rendering:crispEdges}
svg .wrong{fill:var(--ink);shape-rendering:crispEdges}svg .missed{fill:var(--grey);shape-rendering:crispEdges}
svg .picks{fill:var(--blue);fill-opacity:.75}svg .swatch{stroke:var(--edge);stroke-width:1}
svg .whisker{stroke-width:2}svg .dot{stroke:var(--card);stroke-width:1.5}
svg .cell{paint-order:stroke;stroke-width:4;stroke-linejoin:round}svg .on-dark{fill:#fff}svg .on-light{fill:#111} svg .beyond{font-size:10px;fill:var(--grey)}
"""

# For a picture that stands alone: on light ground, as it may be shown on any.
PICTURE = (
    f"svg{{{_LIGHT};font-family:{_FONT}}}svg .ground{{fill:#fff}}svg .title{{font-size:15px;font-weight:600}}{_MARKS}"
)

PAGE = f"""
:root{{color-scheme:light dark;{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
*{{box-sizing:border-box}}
html{{-webkit-text-size-adjust:100%}}
body{{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 {_FONT}}}
main{{max-width:1080px;margin:0 auto;padding:32px 24px 64px}}
h1,h2,h3{{line-height:1.25;margin:0;overflow-wrap:anywhere}}
h1{{font-size:28px;letter-spacing:-.01em;text-wrap:balance}}
h2{{font-size:20px;margin:48px 0 4px;padding-top:20px;border-top:1px solid var(--edge)}}
h3{{font-size:15px}}
p{{margin:4px 0 0;max-width:96ch;overflow-wrap:anywhere}}
.kicker,.facts,figcaption p,.lead{{color:var(--soft)}}
.kicker{{font-size:13px;margin-bottom:6px}}
.facts{{display:flex;flex-wrap:wrap;gap:2px 20px;margin:10px 0 0;padding:0;font-size:13px}}
.facts div{{display:flex;gap:6px;min-width:0}}.facts dt{{flex:none}}.facts dd{{margin:0;color:var(--ink);overflow-wrap:anywhere}}
.verdict{{margin-top:20px;padding:10px 14px;border-left:4px solid var(--good);background:var(--shade);font-weight:600;max-width:none}}
.losses{{margin:18px 0 0;max-width:46rem}}.losses div{{display:flex;flex-wrap:wrap;gap:2px 12px;align-items:baseline;padding:3px 0}}
.losses dt{{min-width:11rem}}.losses dd{{margin:0;display:flex;gap:10px;align-items:center;flex:1}}
.losses .bar{{flex:1;max-width:16rem;min-width:5rem;height:10px;background:var(--shade)}}.losses i{{display:block;height:100%;background:var(--grey)}}
.losses .bad{{color:inherit}}.losses .bad i{{background:var(--bad)}}.losses .bad strong{{color:var(--bad)}}.losses strong{{white-space:nowrap}}
.verdict.quiet{{border-color:var(--grey);font-weight:400}}
.verdict.bad{{border-color:var(--bad)}}
.good{{color:var(--good)}}.bad{{color:var(--bad)}}.verdict.bad{{color:inherit}}
.tiles{{display:grid;grid-template-columns:repeat(auto-fit,minmax(120px,1fr));gap:12px;margin:16px 0 0;padding:0}}
.tiles div{{border:1px solid var(--edge);border-radius:6px;padding:10px 12px;background:var(--card)}}
.tiles dt{{font-size:12px;color:var(--soft)}}
.tiles dd{{margin:0;font-size:20px;font-weight:600;font-variant-numeric:tabular-nums;white-space:nowrap}}
figure{{margin:32px 0 0;min-width:0}}
figcaption p{{font-size:13.5px}}
.plot{{display:block;width:100%;overflow:visible;margin-top:8px}}
.legend{{display:flex;flex-wrap:wrap;gap:2px 16px;margin:6px 0 0;padding:0;list-style:none;font-size:13px}}
.legend li{{display:flex;align-items:center;gap:6px}}.legend svg{{flex:none}}
.legend+.legend{{margin-top:1px}}.legend .group{{color:var(--soft);min-width:138px}}
{_MARKS}
details{{margin-top:8px;font-size:13px}}summary{{cursor:pointer;color:var(--soft);width:fit-content}}
.scrolls{{overflow-x:auto;margin-top:8px}}
table{{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}}
caption{{text-align:left;color:var(--soft);font-size:12.5px;padding-bottom:4px}}
th,td{{padding:4px 14px 4px 0;text-align:right;border-bottom:1px solid var(--faint);white-space:nowrap;vertical-align:top}}
th{{font-weight:600}}thead th{{color:var(--soft);border-bottom-color:var(--edge)}}
th:first-child{{text-align:left}}
.checks td,.checks th{{white-space:normal;text-align:left}}.checks td:first-of-type{{white-space:nowrap;font-weight:600}}
.matrix td{{padding:8px 14px;text-align:right;border:2px solid var(--ground)}}.matrix th{{padding:8px 14px 8px 0}}
.sign{{margin-right:5px}}.matrix thead th{{padding-left:14px;padding-right:14px}}.matrix thead th:first-child{{padding-left:0}}
code,pre{{font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}}
code{{overflow-wrap:anywhere}}
pre{{background:var(--shade);padding:12px 14px;overflow-x:auto;border-radius:6px;margin:8px 0 0}}
.unseen{{position:absolute;width:0;height:0;overflow:hidden}}
nav{{margin-top:16px;font-size:13px}}nav a{{margin-right:16px;color:inherit}}
footer{{margin-top:56px;color:var(--soft);font-size:12.5px}}
a:focus-visible,summary:focus-visible,.scrolls:focus-visible{{outline:2px solid #0072b2;outline-offset:2px}}
@media (max-width:620px){{main{{padding:20px 14px 48px}}h1{{font-size:22px}}svg .odd{{display:none}}.tiles{{grid-template-columns:1fr 1fr}}
.tiles dd{{font-size:17px}}.legend .group{{min-width:100%}}
.checks thead{{display:none}}.checks tr{{display:block;padding:8px 0;border-bottom:1px solid var(--edge)}}
.checks th,.checks td{{display:block;border:0;padding:1px 0}}.checks td:empty{{display:none}}}}
@media print{{:root{{{_LIGHT}}}body{{font-size:11pt;background:#fff}}main{{max-width:none;padding:0}}
*{{print-color-adjust:exact;-webkit-print-color-adjust:exact}}details:not([open]){{display:none}}nav{{display:none}}
figure,.tiles,tr{{break-inside:avoid}}h2,h3,figcaption,.lead,.tiles,.legend{{break-after:avoid}}
figure.long,.long figcaption,.long .legend{{break-inside:auto;break-after:auto}}.tiles{{grid-template-columns:repeat(6,1fr);gap:6px}}.tiles dd{{font-size:15px}}pre{{white-space:pre-wrap}}
.scrolls{{overflow:visible}}table{{font-size:8pt}}th,td{{white-space:normal;padding-right:9px}}}}
@page{{margin:16mm 14mm}}
"""
