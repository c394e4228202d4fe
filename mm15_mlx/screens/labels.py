"""Words that real interfaces use, by where they appear. Lists are split on `|`."""


def _split(text: str) -> tuple[str, ...]:
    """The entries of one list, with line breaks treated as spaces."""
    return tuple(entry.strip() for entry in " ".join(text.split()).split("|"))


# name:icon, the icon is optional
SETTINGS = _split("""
Wi-Fi:wifi|Bluetooth:bluetooth|Airplane Mode:airplane|Mobile Data:trending|
Personal Hotspot:link|VPN:lock|Notifications:bell|Sounds & Haptics:volume-high|
Do Not Disturb:moon|Screen Time:timer|General:settings|Control Center:filter|
Display & Brightness:sun|Dark Mode:moon|Wallpaper:photo|Accessibility:person-circle|
Search:search| Face Unlock:smile|Touch ID:fingerprint|Passcode:lock|
Emergency SOS:phone| Battery:battery|Battery Saver:battery|Privacy:hand|
Privacy & Security:shield|Location Services:location| App Store:bag|Wallet:wallet|
Passwords:key|Mail:mail|Contacts:people|Calendar:calendar| Notes:document-text|
Reminders:list|Phone:phone|Messages:chat|Video Calls:video| Browser:compass|Maps:map|
Shortcuts:bolt|Health:heart|Music:music|Photos:photos| Camera:camera|Books:book|
Games:game|Storage:storage|Software Update:download|Language & Region:globe|
Keyboard:text-size|Font Size:text-size|Auto-Lock:lock|Night Light:moon|
Adaptive Brightness:sun|Screen Saver:tv|Cast:tv|Printing:printer|Nearby Share:share|
Backup:cloud|Cloud Sync:cloud|Auto-Download:download|Background Refresh:refresh|
Data Saver:drop|Roaming:globe|Read Receipts:check|Typing Indicators:chat|
Link Previews:link| Two-Factor Authentication:key|Fingerprint Unlock:fingerprint|
App Lock:lock|Blocked Users:hand|Payment Methods:card|Subscriptions:refresh|
Order History:bag|Shipping Address:location|Gift Cards:gift|Email Updates:mail|
Push Notifications:bell|Weekly Report:chart|Marketing Emails:mail|
Crash Reports:warning|Usage Analytics:chart|Developer Options:code|USB Debugging:code|
Autoplay Videos:play|Download Over Wi-Fi:download|High Quality Audio:headphones|
Equalizer:filter|Crossfade:shuffle|Offline Mode:cloud|Clear Cache:trash|
Reset Settings:undo|Help Center:help|Contact Support:chat|Report a Problem:flag|
Terms of Service:document-text|Privacy Policy:shield|About:info|Rate This App:star|
Invite Friends:person-add|Log Out:logout|Units:thermometer|Time Zone:clock|
24-Hour Time:clock|Week Starts On:calendar|Default Reminder:bell|Vibration:bolt|
Ringtone:music|Haptic Feedback:hand|Raise to Wake:hand|Always On Display:display|
Auto Rotate:refresh|Magnifier:search|Voice Control:microphone|Captions:chat|
Color Filters:palette|Reduce Motion:eye-off|Bold Text:text-size|Smart Home:home|
Alarms:alarm| Sleep Schedule:bed|Activity Goals:flame|Heart Rate:heart|Steps:trending|
Water Intake:drop
""")

VALUES = _split("""
On|Off|Automatic|Always|Never|Ask Every Time|While Using|English (US)|Deutsch|Español|
Light|Dark|System|Medium|Large|Small|Default|30 Seconds|1 Minute|5 Minutes|
15 Minutes| Daily|Weekly|Monthly|Sunday|Monday|Everyone|Contacts Only|Nobody|High|Low|
720p|1080p| 4K|Metric|Imperial|Celsius|Fahrenheit|Home Network|Office-5G|
Not Connected|Connected| 2 new|3 apps|12.4 GB|64 GB|128 GB|86%|41%|Version 4.2.1|
Up to date|Not Set|Enabled| Disabled|Visa ···· 4242|Standard|Silent|Vibrate|
Reflection|Chime|Radar|Bell Tower
""")

BUTTONS = _split("""
Continue|Save|Cancel|Done|Next|Back|Submit|Apply|Confirm|Delete|Edit|Share|
Add to Cart|Buy Now|Checkout|Sign In|Sign Up|Log In|Create Account|Get Started|Skip|
Learn More|Try Again|Retry|Refresh|Download|Upload|Install|Update|Open|Close|Send|
Reply| Forward|Follow|Following|Unfollow|Subscribe|Message|Call|Invite|Join|Leave|
Accept| Decline|Allow|Don't Allow|Not Now|Remind Me Later|View All|See More|
Show Results|Clear All|Reset|Select All|Copy Link|Book Now|Reserve|Pay Now|
Place Order|Track Order| Reorder|Write a Review|Add Photo|Take Photo|Choose File|
Record|Play|Pause|Start Workout|Finish|Save Draft|Publish|Preview|Print|Export|Import|
Sync Now|Connect| Disconnect|Enable|Disable|Verify|Resend Code|Change Password|
Add Friend|Block|Report| Mute|Archive|Move|Rename|Duplicate|New Folder|Add Event|
Set Alarm|Set Goal|Redeem| Upgrade|Go Premium|Start Free Trial|Restore|Manage|Explore|
Browse|Find Nearby|Get Directions|Donate|Contact Us|Feedback
""")

TABS = _split("""
Home:home|Search:search|Profile:person|Settings:settings|Favorites:heart|Library:book|
Messages:chat|Chats:chats|Calls:phone|Contacts:people|Cart:cart|Shop:bag|Orders:bag|
Explore:compass|Map:map|Activity:chart|Notifications:bell|Inbox:inbox|
Calendar:calendar| Photos:photos|Albums:folder|Music:music|Radio:microphone|
Browse:grid|Saved:bookmark| Today:sun|Games:game|Wallet:wallet|Cards:card|Stats:chart|
More:menu|Camera:camera| Videos:video|News:document-text|Trips:airplane|Health:heart|
Files:folder|Recents:clock| Shared:people|Account:person-circle|Feed:list|Deals:tag|
Tickets:ticket|Learn:book| Workouts:flame|Sleep:moon|Devices:display|Alarm:alarm|
Timer:timer|Clock:clock
""")

ACTIONS = _split("""
Share:share|Copy Link:link|Save to Photos:download|Edit:edit|Duplicate:copy|
Rename:edit|Move to Folder:folder|Add to Favorites:heart|Add to Playlist:list|
Download:download|Print:printer|Report:flag|Mute:bell-off|Block User:hand|
Archive:archive|Mark as Unread:mail|Reply:reply|Forward:forward-mail|Pin to Top:pin|
Hide:eye-off|View Profile:person|Get Info:info|Open in Browser:compass|
Take Photo:camera|Choose from Library:photos|Browse Files:folder|Scan Document:scan|
Send Feedback:chat|Set Reminder:alarm|Add Tag:tag|Export as PDF:document|Lock:lock
""")
DANGER = _split("""
Delete|Remove|Discard Draft|Delete Account|Erase All|Leave Group|Unfollow|
Clear History|Delete Photo|Remove Download|Sign Out|Block
""")

NAVBAR = _split("""
search|add|more|share|edit|bell|settings|filter|heart|cart|camera|compose|star|info|
person-circle|refresh|qr|sort|grid|list|bookmark|download|phone|video|trash|calendar|
help|scan|folder|link|globe|send
""")

HEADERS = _split("""
General|Account|Privacy|Notifications|Appearance|Security|Connections|Preferences|
Personal|Advanced|Support|About|Today|Yesterday|This Week|Earlier|Recently Used|
Suggested|Popular|New Releases|For You|Trending|Favorites|Recommended|Nearby|
Categories| Top Picks|Continue Watching|Shared with You|My Devices|Other Networks|
Storage|Payment| Delivery|Summary|Details|Members|Options|Danger Zone|Quick Actions|
Activity|Overview
""")

TITLES = _split("""
Settings|Preferences|Account|Profile|Messages|Inbox|Photos|Albums|Library|Orders|
Statistics|Overview|Activity|My Trips|Recipes|Workouts|Playlists|Friends|Discover|
Bookings|Events|Tasks|Notes|Wallet|Transactions|Reports|Team|Projects|Downloads|
History|Documents|Devices|Smart Home|Weather|News|Podcasts|Courses|Tickets|Rewards|
Help Center|Notifications|Privacy|Security|Storage|Display|Sound|Language|Billing
""")

FILTERS = _split("""
All|New|Popular|Unread|Flagged|Sale|Nearby|Open Now|Top Rated|Free|Paid|Today|
This Week|Photos|Videos|Links|Docs|People|Places|Music|Under $25|In Stock|Vegan|
Family| Jazz|Rock|Pop|Design|Travel|Food|Tech|Sports|Health|Books|Recent|Shared|
Archived| Completed|Pending|Men|Women|Kids|Home|Garden|Work|Personal|Urgent|Low Price
""")

SEGMENTS = (
    ("Day", "Week", "Month"),
    ("Day", "Week", "Month", "Year"),
    ("All", "Missed"),
    ("Photos", "Albums"),
    ("Following", "For You"),
    ("List", "Map"),
    ("Songs", "Albums", "Artists"),
    ("Active", "Completed"),
    ("Income", "Expenses"),
    ("Overview", "Details", "Reviews"),
    ("Top", "Latest", "People"),
    ("1D", "1W", "1M", "1Y"),
    ("Grid", "List"),
    ("Sign In", "Sign Up"),
    ("Small", "Medium", "Large"),
    ("Upcoming", "Past"),
    ("Posts", "Tagged", "Saved"),
    ("Chats", "Calls"),
    ("Delivery", "Pickup"),
    ("Buy", "Sell"),
)

PRODUCTS = _split("""
Sneakers|Headphones|Backpack|Desk Lamp|Coffee Maker|Water Bottle|Rain Jacket|
Sunglasses| Wool Scarf|Notebook|Yoga Mat|Bluetooth Speaker|Ceramic Mug|Leather Wallet|
Running Shorts|Standing Desk|Office Chair|Phone Case|Charging Cable|Smart Watch|
Tea Set|Bath Towel|Throw Pillow|Picnic Blanket|Camping Tent|Trail Boots|Denim Jacket|
Linen Shirt|Wall Clock|Plant Pot|Cutting Board|Chef Knife|Board Game|Puzzle|
Guitar Strings|Keyboard|Mouse Pad|Webcam|Tripod|Bike Helmet|Swim Goggles|
Travel Pillow|Umbrella|Face Cream|Hand Soap|Candle|Picture Frame|Night Light|
Power Bank|Memory Card|Socks|Beanie|Hoodie
""")
ADJECTIVES = _split("""
Classic|Slim|Organic|Vintage|Everyday|Compact|Premium|Soft|Ultra|Eco|Nordic|Urban|
Alpine|Studio|Pocket|Modern|Cozy|Bold|Crystal|Midnight|Coral|Sage|Ivory|Graphite
""")

SONGS = _split("""
Paper Lanterns|Golden Hour|Northern Line|Slow Motion|Saltwater|Satellite Heart|
Blue Avenue|Winter Garden|Neon Rivers|Letters Home|Halfway There|Static & Silk|
Open Windows| Echo Park|Small Hours|Wildflower|Undertow|Glass Houses|After the Rain|
Lighthouse|Run With Me|Silver Thread|Moonrise|The Long Way|Hollow Bones|
Ten Thousand Miles
""")

FILES = _split("""
report|invoice|budget|resume|contract|meeting-notes|photo|presentation|schedule|
receipt|manual|design|backup|logo|draft|proposal|itinerary|recording|summary|
checklist
""")
EXTENSIONS = _split("pdf|docx|xlsx|png|jpg|txt|zip|mp4|key|csv|pptx|mp3")

MESSAGES = _split("""
See you at 7!|On my way|Can you send me the file?|Sounds good 👍|Running late, sorry|
Happy birthday!|Did you get my email?|Lunch tomorrow?|Thanks so much|
Call me when you can|Just landed|That's hilarious|Let me check and get back to you|
Where are you?|Almost there|Good morning|Great job today|I'll bring the snacks|
Meeting moved to Thursday|Can we reschedule?|Love it|No worries|
What time works for you?|The photos look amazing|Did you lock the door?|
Don't forget the tickets|Got it, thanks|Maybe next week|Let's do it|
Can't wait to see you|How was the interview?|Dinner is ready|
I left the keys on the table|Please review the draft|It's raining here|
We won the game|Is the shop still open?|The train is delayed|I'll be home around 6|
Sure, why not|Give me five minutes|Who is coming tonight?
""")

EMPTY = (
    ("No Messages", "When someone writes to you, it shows up here.", "chat"),
    ("Your Cart Is Empty", "Add items to get started.", "cart"),
    ("No Results Found", "Try a different search term.", "search"),
    ("You're Offline", "Check your connection and try again.", "wifi"),
    ("No Favorites Yet", "Tap the heart on anything you like.", "heart"),
    ("Nothing Here", "Files you download will appear here.", "download"),
    ("No Notifications", "You're all caught up!", "bell"),
    ("No Upcoming Events", "Enjoy your free time.", "calendar"),
    ("Library Is Empty", "Songs you save are kept here.", "music"),
    ("No Photos", "Take your first picture to fill this album.", "camera"),
    ("Location Off", "Turn on location to find places nearby.", "location"),
    ("Something Went Wrong", "We could not load this page.", "warning"),
    ("No Friends Online", "Invite people you know to join you.", "people"),
    ("All Done", "You have finished every task for today.", "check-circle"),
    ("No Saved Cards", "Add a card to pay faster next time.", "card"),
    ("No Recordings", "Press the button below to record.", "microphone"),
)

ONBOARDING = (
    ("Welcome to {app}", "Everything you need in one simple place."),
    ("Stay Organized", "Plan your day and never miss a deadline again."),
    ("Track Your Progress", "Set goals and watch yourself improve every week."),
    ("Connect with Friends", "Share moments with the people who matter most."),
    ("Private by Design", "Your data stays on your device and belongs to you."),
    ("Discover New Places", "Find restaurants, parks and events around you."),
    ("Turn On Notifications", "We only tell you about things that matter."),
    ("Pay in Seconds", "Send money to anyone with just a phone number."),
    ("Sleep Better", "Gentle sounds and smart alarms for calm nights."),
    ("Learn Anything", "Short lessons that fit into your busy schedule."),
)

DIALOGS = (
    ("Delete Photo?", "This photo will be removed from all your devices.", "Delete"),
    ("Turn Off Wi-Fi?", "Some features may not work without a network.", "Turn Off"),
    ("Allow Location?", "{app} would like to use your location.", "Allow"),
    ("Unsaved Changes", "Do you want to save before you leave?", "Save"),
    ("Log Out?", "You will need to sign in again.", "Log Out"),
    ("Update Available", "Version {version} is ready to install.", "Install"),
    ("Low Battery", "{percent}% battery remaining.", "Low Power Mode"),
    ("Remove Item", "Remove this item from your cart?", "Remove"),
    ("Send Message?", "Your message will be sent to {name}.", "Send"),
    ("Enable Notifications", "{app} would like to send you alerts.", "Enable"),
    ("Storage Almost Full", "Only {number} MB left on this device.", "Manage"),
    ("Discard Draft?", "You cannot undo this action.", "Discard"),
    ("Rate {app}", "How do you like it so far?", "Rate Now"),
    ("Payment Failed", "Your card was declined. Try another one.", "Retry"),
    ("Cancel Booking?", "You will be refunded {price}.", "Yes, Cancel"),
    ("Join {name}'s Call?", "The call has already started.", "Join"),
    ("Clear History", "All {number} items will be erased.", "Clear"),
    ("New Device", "A sign-in from {city} was detected.", "Review"),
)

NOTICES = _split("""
{name} liked your photo|{name} started following you|{name} commented: {message}|
Your order #{number} has shipped|Payment of {price} received|New login from {city}|
{name} mentioned you in a comment|Reminder: {event} at {time}|
Your password was changed|{app} {version} is available|You earned {number} points|
{name} sent you a friend request|Your ride arrives in {minute} min|
Flight {flight} is delayed|Backup completed|Your weekly report is ready|
{name} shared a file with you|Sale ends tonight: {percent}% off|
{name} accepted your invitation|Your subscription renews on {date}|
Low stock alert: {product}| Your table for {minute} is booked
""")

EVENTS = _split("""
Team Meeting|Dentist|Lunch with {first}|Yoga Class|Project Review|Flight to {city}|
Call {first}|Gym|Birthday Party|Parent Evening|Design Sync|Book Club|Haircut|
Grocery Run| Piano Lesson|Budget Planning|Doctor Appointment|Movie Night|
Pick Up {first}|Car Service|Interview|Dinner at {city} Grill|Weekly Standup|
Soccer Practice|Study Group
""")

APPS = _split("""
Nimbus|Fable|Orbit|Pocketly|Trailhead|Mosaic|Loop|Harbor|Quill|Sprout|Beacon|Cascade|
Ember|Drift|Lumen|Pixelry|Tandem|Voyage|Zest|Marble|Notewell|Stride|Kettle|Parcel
""")

METRICS = _split("""
Revenue|Orders|Visitors|Steps|Calories|Distance|Sleep|Heart Rate|Balance|Expenses|
Savings|Followers|Views|Likes|Downloads|Sessions|Conversion|Refunds|New Users|Uptime|
Latency|Storage|Temperature|Humidity|Energy|Messages|Tasks Done|Streak|Profit|Growth
""")

LOCATIONS = _split("""
Kitchen|Bedroom|Living Room|Office|Bathroom|Garage|Garden|Hallway|Attic|Basement
""")

COUNTRIES = _split("""
United States|Canada|Germany|France|Japan|Brazil|Kenya|Norway|Spain|Italy|Mexico|
India |Australia|Portugal|Sweden|Chile|Ghana|Ireland|Poland|Vietnam
""")
