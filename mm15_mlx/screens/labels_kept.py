"""Words that stand on test screens only (`Options.words`): lists of `labels.py` anew.

No entry is in a list of `labels.py`, so that reading them is more than remembering.
"""

from .labels import _split

SETTINGS = _split("""
Ultra Wideband:bolt|Satellite Link:globe|Hearing Aids:headphones|Carrier Profile:phone|
Tethering:wifi|Firewall:shield|Banner Style:bell|Lock Screen Clock:clock|
Wind Down:moon|Charging Limit:battery|Optimized Charging:battery|True Tone:sun|
Refresh Rate:display|Pointer Speed:hand|Dictation:microphone|Spell Check:text-size|
Autocorrect:edit|Emoji Suggestions:smile|Trackpad Gestures:hand|Find My Tablet:location|
Trusted Contacts:people|Recovery Code:key|Passkeys:fingerprint|Sign-in Alerts:warning|
Advertising ID:tag|Cookie Controls:filter|Pop-up Blocker:hand|Reader View:book|
Default Browser:compass|Swipe Actions:mail|Signature:edit|Vacation Responder:airplane|
Undo Send:undo|Thread Grouping:list|Live Photos:camera|Lens Correction:eye|
Burst Capture:photos|Grid Lines:grid|Watermark:drop|Lossless Playback:music|
Gapless Tracks:play|Lyrics Overlay:text-size|Radio Presets:microphone|
Parental Lock:lock|Spending Caps:card|Loyalty Number:ticket|Delivery Slot:cart|
Meter Reading:chart|Fuel Reminders:car|Toll Alerts:warning|Altitude Unit:trending|
Tide Table:thermometer|Pollen Forecast:leaf|Frost Warning:thermometer|
Medication Log:medkit|Posture Nudge:person|Breathing Pace:heart|Hydration Chart:drop|
Thermostat Hold:thermometer|Porch Lamp:bulb|Robot Mower:home|Doorbell Chime:bell
""")

VALUES = _split("""
Strict|Relaxed|Every Hour|Twice a Week|Fortnightly|Friends Only|Team Only|Muted|
Vivid|Muted Tones|Extra Wide|Narrow|Half Speed|Double Speed|90 Seconds|2 Hours|
Nynorsk|Català|Suomi|Kelvin|Knots|Furlongs|Guest Wi-Fi|Workshop-2G|Pairing…|Paired|
7 pending|11 rules|3.8 GB|27 GB|250 GB|19%|73%|Build 7731|Overdue|Unlisted|Granted|
Revoked|Maestro ···· 9071|Marimba|Foghorn|Ripple
""")

BUTTONS = _split("""
Proceed|Keep|Dismiss|Finish Later|Swap|Compare|Nominate|Escalate|Approve|Reject|
Assign to Me|Withdraw|Transfer|Top Up|Split Bill|Tip Driver|Rebook|Change Seat|
Board Now|Unlock Bike|Hail a Cab|Start Tour|Scan Ticket|Weigh In|Log Meal|Warm Up|
Cool Down|Rewind|Crop|Rotate|Brighten|Sharpen|Stitch|Trim Clip|Add Caption|Go Live|
Raise Hand|Lower Hand|Admit Guest|End Poll|Cast Vote|Pledge|Sponsor|Adopt|Volunteer|
Subscribe Weekly|Gift Membership|Claim Voucher|Swap Size|Notify Me|Hold for Pickup|
Find a Locker|Schedule Visit|Request Quote|Countersign|Annotate|Redact|Merge|Revert
""")

TABS = _split("""
Lobby:home|Lookup:search|Me:person|Tuning:filter|Cherished:heart|Shelf:book|
Threads:chat|Rooms:chats|Dialer:phone|Crew:people|Basket:cart|Boutique:bag|
Parcels:archive|Wander:compass|Atlas:map|Pulse:chart|Alerts:bell|Mailroom:inbox|
Planner:calendar|Snaps:photos|Binders:folder|Tunes:music|Airwaves:microphone|
Aisles:grid|Kept:bookmark|Daybreak:sun|Arcade:game|Purse:wallet|Passes:ticket|
Figures:trending|Extras:more|Lens:camera|Clips:video|Gazette:document-text|
Voyages:airplane|Vitals:medkit|Vault:lock|Lately:clock|Fleet:car|Depot:building
""")

ACTIONS = _split("""
Send a Copy:send|Grab Address:link|Keep in Gallery:download|Touch Up:edit|
Clone:copy|Relabel:edit|Shift to Shelf:folder|Mark as Cherished:heart|
Queue Next:list|Fetch Offline:download|Put on Paper:printer|Raise a Flag:flag|
Silence Thread:bell-off|Shun Sender:hand|Put Away:archive|Treat as New:mail|
Answer:reply|Pass Along:forward-mail|Stick on Top:pin|Conceal:eye-off|
Meet the Author:person|Show Properties:info|Launch Externally:compass|
Shoot Now:camera|Fetch from Roll:photos|Digitize Page:scan|Tell the Makers:chat|
Nudge Me Later:alarm|Attach Sticker:tag|Render as Slides:document|Seal:lock
""")
DANGER = _split("""
Scrap|Drop It|Abandon Changes|Close Account Forever|Wipe Device|Quit Circle|
Forget Network|Purge Archive|Shred Scan|Revoke Access|Unpair|Terminate Lease
""")

HEADERS = _split("""
Essentials|Identity|Safeguards|Alerts & Tones|Look and Feel|Locks|Peripherals|Habits|
Mine|Expert Corner|Assistance|Colophon|This Morning|Last Evening|Past Fortnight|Older|
Used Lately|Handpicked|Crowd Pleasers|Fresh Arrivals|Picked by Ana|On the Rise|
Cherished|Worth a Look|Around the Corner|Departments|Editors' Shelf|Pick Up Again|
Lent to Me|My Gadgets|Neighbouring Networks|Disk Usage|Invoicing|Dispatch|Recap|
Fine Print|Crew|Variants|Irreversible|At a Glance|Movement|Bird's-eye
""")

TITLES = _split("""
Control Room|Tweaks|Membership|Dossier|Correspondence|Mailroom|Snapshots|Scrapbooks|
Bookshelf|Purchases|Figures|Bird's-eye|Movement|My Voyages|Kitchen Notes|Drills|
Mixtapes|Companions|Wander|Reservations|Happenings|Chores|Jottings|Purse|Ledger|
Findings|Squad|Ventures|Fetched|Chronicle|Paperwork|Gadgets|Household|Forecast|
Gazette|Broadcasts|Lectures|Admissions|Perks|Assistance|Alerts|Discretion|Safeguards|
Disk Usage|Panel|Acoustics|Tongues|Invoicing
""")

FILTERS = _split("""
Everything|Fresh|Well Liked|Unopened|Starred|Reduced|Close By|Staffed Now|Five Stars|
Gratis|Premium Only|This Morning|Past Month|Stills|Footage|Hyperlinks|Papers|Humans|
Spots|Audio|Below $40|On Hand|Plant-based|Kin|Blues|Folk|Techno|Sketches|Abroad|
Dining|Gadgetry|Athletics|Wellness|Novels|Freshest|Lent|Stowed|Finished|Waiting|
Gentlemen|Ladies|Toddlers|Household|Orchard|Bureau|Private|Pressing|Bargain
""")

SEGMENTS = (
    ("Hour", "Shift", "Quarter"),
    ("Dawn", "Noon", "Dusk", "Night"),
    ("Every", "Dropped"),
    ("Stills", "Reels"),
    ("Circle", "Suggestions"),
    ("Rows", "Atlas"),
    ("Tracks", "Records", "Bands"),
    ("Unsolved", "Resolved"),
    ("Earned", "Spent"),
    ("Synopsis", "Specs", "Opinions"),
    ("Best", "Freshest", "Humans"),
    ("6H", "2D", "3W", "5Y"),
    ("Collage", "Rows"),
    ("Petite", "Regular", "Grand"),
    ("Ahead", "Behind"),
    ("Courier", "Locker"),
    ("Borrow", "Lend"),
)

PRODUCTS = _split("""
Moccasins|Earbuds|Rucksack|Reading Lamp|Espresso Machine|Thermos|Windbreaker|
Ski Mask|Silk Tie|Sketchpad|Kettlebell|Turntable|Teapot|Coin Purse|Cargo Trousers|
Drafting Table|Footstool|Tablet Sleeve|Extension Lead|Pedometer|Fondue Set|Bathrobe|
Quilt|Hammock|Sleeping Bag|Wellingtons|Corduroy Vest|Flannel Nightgown|Barometer|
Watering Can|Rolling Pin|Paring Knife|Chess Set|Jigsaw|Violin Bow|Trackball|Desk Fan|
Ring Light|Monopod|Knee Pads|Snorkel|Eye Mask|Parasol|Shaving Foam|Bubble Bath|
Incense|Mirror|Torch|Solar Charger|Flash Drive|Mittens|Beret|Cardigan
""")
ADJECTIVES = _split("""
Rustic|Lean|Wholesome|Antique|Weekday|Foldable|Deluxe|Plush|Hyper|Recycled|Baltic|
Suburban|Coastal|Atelier|Miniature|Retro|Snug|Daring|Quartz|Twilight|Peach|Olive|
Cream|Charcoal
""")

SONGS = _split("""
Copper Kites|Quarter to Dawn|Southbound Ferry|Borrowed Umbrella|Juniper|Radio Moth|
Violet Causeway|Orchard in August|Amber Canyons|Postcards Unsent|Nearly Tuesday|
Velvet Thunder|Shutters Down|Walnut Street|Tiny Parades|Foxglove|Riptide Waltz|
Marble Stairs|Between Storms|Harbourmaster|Follow the Heron|Tin Ribbon|Eclipse Party
""")

FILES = _split("""
ledger|payslip|forecast|portfolio|lease|interview-log|portrait|slides|roster|voucher|
handbook|blueprint|snapshot|emblem|sketch|tender|route|memo|digest|stocktake
""")

MESSAGES = _split("""
Meet me by the fountain|Boarding in ten|Could you forward the invoice?|Splendid idea|
Stuck behind a tractor|Congratulations, both of you!|Has the parcel arrived?|
Picnic on Saturday?|Much obliged|Ring the bell twice|We moored safely|
What a ridiculous hat|I'd rather sleep on it|Which platform?|Two stops to go|
Sleep tight|Proud of your speech|We'll fetch dessert|Rehearsal starts at noon|
Shall we postpone?|Simply gorgeous|Never mind|How does Wednesday sound?|
Your garden looks fantastic|Who fed the cat?|Remember your passport|Understood|
Another day, perhaps|Deal, count me in|Missing you already|Any news from the vet?|
Soup is on the stove|The spare set hangs by the window|Kindly sign page four|
Snow up to our knees|Our team came third|Does the bakery open early?|
Every ferry is cancelled|Back before midnight|With pleasure|Hold the elevator|
Bring warm gloves tonight
""")

EMPTY = (
    ("Quiet in Here", "Replies from your crew land on this page.", "chat"),
    ("Basket Is Bare", "Drop in something you fancy.", "cart"),
    ("Zero Matches", "Maybe spell it another way.", "search"),
    ("Signal Lost", "Move closer to the router, then reload.", "wifi"),
    ("Nothing Cherished", "Long-press an item to cherish it.", "heart"),
    ("Shelf Is Bare", "Fetched papers gather on this shelf.", "download"),
    ("Peace and Quiet", "No alert has reached you since noon.", "bell"),
    ("Agenda Is Blank", "Stroll in the park instead?", "calendar"),
    ("Not a Single Snap", "Point the lens somewhere pretty.", "camera"),
    ("Atlas Unavailable", "Grant positioning to see what is close.", "location"),
    ("Our Servers Tripped", "Engineers are already looking into it.", "warning"),
    ("Chores Complete", "Put your feet up, you earned it.", "check-circle"),
)

ONBOARDING = (
    ("Say Hello to {app}", "One drawer for bills, keys and receipts."),
    ("Tidy Desk, Tidy Mind", "Sort chores by mood instead of by date."),
    ("Grow a Little Daily", "Tiny drills nudge you toward bigger aims."),
    ("Bring the Neighbours", "Swap tools, seeds and stories on your street."),
    ("Sealed and Silent", "Nobody reads along, not even our engineers."),
    ("Wander off the Map", "Bakeries, ponds and staircases worth a detour."),
    ("Let Us Tap You", "Two alerts per week, never after sunset."),
    ("Settle Up Quickly", "Split a dinner bill before dessert arrives."),
)

DIALOGS = (
    ("Shred This Scan?", "Copies on paired tablets vanish as well.", "Shred"),
    ("Leave the Queue?", "You would lose spot {number}.", "Leave Queue"),
    ("Share Your Position?", "{app} shows neighbours where you stand.", "Share It"),
    ("Half-finished Letter", "Keep this letter for later?", "Keep It"),
    ("Firmware Ready", "Build {version} takes nine minutes.", "Apply Tonight"),
    ("Battery Wearing Out", "It holds {percent}% of its former charge.", "Book Repair"),
    ("Swap Seats?", "{name} wants the aisle.", "Swap"),
    ("Fare Declined", "The issuer refused {price}.", "Other Card"),
    ("Unfamiliar Browser", "Somebody near {city} knows your passphrase.", "Lock Out"),
    ("Purge Chronicle", "{number} visits would be forgotten.", "Purge"),
)

NOTICES = _split("""
{name} cheered your recital|{name} joined your circle|{name} replied: {message}|
Parcel {number} left the depot|Refund of {price} granted|Somebody near {city} rang|
{name} quoted you|Tomorrow at {time}: {event}|Passphrase renewed|
{app} build {version} landed|Perk level {number} unlocked|{name} wants to pair|
Your ferry docks in {minute} min|Gate for {flight} moved|Vault mirrored|
Recap of the fortnight is here|{name} lent you a folder|Everything {percent}% off|
Membership lapses on {date}|Almost gone: {product}
""")

EVENTS = _split("""
Harvest Supper|Optician|Brunch with {first}|Fencing Lesson|Retrospective|
Ferry to {city}|Phone {first}|Climbing Wall|Housewarming|Choir Rehearsal|Tasting|
Poetry Slam|Barber|Farmers' Market|Cello Lesson|Tax Appointment|Vaccination|
Opera Premiere|Walk {first}'s Dog|Tyre Change|Casting|Supper at {city} Inn|
Quarterly Retreat|Rowing Practice|Pottery Course
""")

APPS = _split("""
Thistle|Yonder|Plumb|Gazelle|Wicker|Tinder Box|Overcoat|Pergola|Saffron|Kestrel|
Bramble|Ottoman|Juniper|Flotsam|Dapper|Cobble|Whisk|Larkspur
""")

METRICS = _split("""
Turnover|Stays|Footfall|Strides|Kilojoules|Mileage|Slumber|Pulse|Funds|Outlay|
Reserves|Admirers|Impressions|Applause|Installs|Logins|Yield|Chargebacks|Sign-ups|
Outages|Jitter|Disk Usage|Barometer|Dew Point|Wattage|Letters|Chores Done|Run of Luck
""")

LOCATIONS = _split("""
Pantry|Nursery|Parlour|Workshop|Laundry|Carport|Orchard|Stairwell|Loft|Cellar
""")

COUNTRIES = _split("""
Iceland|Peru|Austria|Belgium|Thailand|Uruguay|Senegal|Denmark|Greece|Malta|Cuba|
Nepal|Fiji|Latvia|Estonia|Bolivia|Morocco|Scotland|Hungary|Laos
""")
